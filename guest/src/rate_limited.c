/* Error 10: launches that the host did not let through, since the VM makes too many calls a second. */
#include "guest.h"

void ivg_call_rate_limited(void)
{
        static _Atomic(uint32_t) told;
        uint32_t no = 0;

        if (ivg_compare_exchange_acq_rel_u32(&told, &no, 1))
                ivg_log("error %d (%s): launches above this VM's calls_per_s fail (CUDA error %d)",
                        IVG_ERROR_RATE_LIMITED, ivg_error_code_name(IVG_ERROR_RATE_LIMITED),
                        (int)IVG_RESULT_RATE_LIMITED);
}
