/* Loads and stores. Each lane's access is one relaxed atomic of its size, as the hardware's is: blocks on other cores
 * may read and write the same words, which plain C accesses would make undefined. */
#include "ptx_memory.h"

#include "ptx_machine.h"

#define LOAD(T, P) __atomic_load_n((const lane_##T *)(const void *)(P), __ATOMIC_RELAXED)
#define STORE(T, P, V) __atomic_store_n((lane_##T *)(void *)(P), (lane_##T)(V), __ATOMIC_RELAXED)

#ifdef IVG_TSAN
void ptx_fence(void)
{
        static _Atomic(uint32_t) word;

        atomic_fetch_add(&word, 1);
}
#endif

static inline void acquire(const struct ptx_insn *insn)
{
        if (insn->roles & PTX_ROLE_ACQUIRE)
                ptx_fence();
}

static inline void release(const struct ptx_insn *insn)
{
        if (insn->roles & PTX_ROLE_RELEASE)
                ptx_fence();
}

/* One 32-bit or 64-bit register per lane: nearly all loads of nearly all kernels. */
int ptx_op_load32(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        lane_u32 *d = ptx_at(warp, insn->d);
        int rc = ptx_resolve(warp, insn, mask, 4, false, place);

        if (rc)
                return rc;
        PTX_LANES_DO(mask, d[i] = LOAD(u32, place[i]););
        acquire(insn);
        return 0;
}

int ptx_op_load64(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        lane_u64 *d = ptx_at(warp, insn->d);
        int rc = ptx_resolve(warp, insn, mask, 8, false, place);

        if (rc)
                return rc;
        PTX_LANES_DO(mask, d[i] = LOAD(u64, place[i]););
        acquire(insn);
        return 0;
}

int ptx_op_store32(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        const lane_u32 *b = ptx_at(warp, insn->b);
        int rc = ptx_resolve(warp, insn, mask, 4, true, place);

        if (rc)
                return rc;
        release(insn);
        PTX_LANES_DO(mask, STORE(u32, place[i], b[i]););
        acquire(insn);
        return 0;
}

int ptx_op_store64(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        const lane_u64 *b = ptx_at(warp, insn->b);
        int rc = ptx_resolve(warp, insn, mask, 8, true, place);

        if (rc)
                return rc;
        release(insn);
        PTX_LANES_DO(mask, STORE(u64, place[i], b[i]););
        acquire(insn);
        return 0;
}

static uint64_t load_element(const uint8_t *place, enum ptx_type type)
{
        switch (ptx_types[type].bytes) {
        case 1:
                return ptx_types[type].kind == 's' ? (uint64_t)(int64_t)(int8_t)LOAD(u8, place) : LOAD(u8, place);
        case 2:
                return ptx_types[type].kind == 's' ? (uint64_t)(int64_t)(int16_t)LOAD(u16, place) : LOAD(u16, place);
        case 4:
                return ptx_types[type].kind == 's' ? (uint64_t)(int64_t)(int32_t)LOAD(u32, place) : LOAD(u32, place);
        default:
                return LOAD(u64, place);
        }
}

static void store_element(uint8_t *place, unsigned bytes, uint64_t value)
{
        switch (bytes) {
        case 1:
                STORE(u8, place, value);
                break;
        case 2:
                STORE(u16, place, value);
                break;
        case 4:
                STORE(u32, place, value);
                break;
        default:
                STORE(u64, place, value);
                break;
        }
}

/* Element k of a vector, or the one register there is. Its register width stands in `aux`, a nibble each. */
static ptx_ref element_ref(const struct ptx_insn *insn, unsigned k, ptx_ref single)
{
        return insn->list ? insn->list[k] : single;
}

int ptx_op_load(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        const unsigned bytes = ptx_types[insn->type].bytes;
        int rc = ptx_resolve(warp, insn, mask, bytes * insn->count, false, place);

        if (rc)
                return rc;
        for (unsigned k = 0; k < insn->count; k++) {
                void *d = ptx_at(warp, element_ref(insn, k, insn->d));
                const unsigned offset = k * bytes;

                switch (insn->aux >> 4 * k & 15) {
                case 2:
                        PTX_LANES_DO(mask, ((lane_u16 *)d)[i] = (uint16_t)load_element(place[i] + offset, insn->type););
                        break;
                case 4:
                        PTX_LANES_DO(mask, ((lane_u32 *)d)[i] = (uint32_t)load_element(place[i] + offset, insn->type););
                        break;
                default:
                        PTX_LANES_DO(mask, ((lane_u64 *)d)[i] = load_element(place[i] + offset, insn->type););
                        break;
                }
        }
        acquire(insn);
        return 0;
}

int ptx_op_store(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        const unsigned bytes = ptx_types[insn->type].bytes;
        int rc = ptx_resolve(warp, insn, mask, bytes * insn->count, true, place);

        if (rc)
                return rc;
        release(insn);
        for (unsigned k = 0; k < insn->count; k++) {
                const void *b = ptx_at(warp, element_ref(insn, k, insn->b));
                const unsigned offset = k * bytes;

                switch (insn->aux >> 4 * k & 15) {
                case 2:
                        PTX_LANES_DO(mask, store_element(place[i] + offset, bytes, ((const lane_u16 *)b)[i]););
                        break;
                case 4:
                        PTX_LANES_DO(mask, store_element(place[i] + offset, bytes, ((const lane_u32 *)b)[i]););
                        break;
                default:
                        PTX_LANES_DO(mask, store_element(place[i] + offset, bytes, ((const lane_u64 *)b)[i]););
                        break;
                }
        }
        acquire(insn);
        return 0;
}

int ptx_op_fence(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        (void)warp;
        (void)insn;
        (void)mask;
        ptx_fence();
        return 0;
}

/* cp.async: [a + offset] in shared memory from the generic address b + aux, at once. `bytes` are written, of which c
 * (if there is one) says how many are read; the rest is zero. */
int ptx_op_copy_async(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        const lane_u64 *from = ptx_at(warp, insn->b);
        const lane_u32 *sizes = insn->c == PTX_REF_NONE ? NULL : ptx_at(warp, insn->c);
        int rc = ptx_resolve(warp, insn, mask, insn->bytes, true, place);

        if (rc)
                return rc;
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                unsigned bytes = sizes && sizes[i] < insn->bytes ? sizes[i] : insn->bytes;
                uint64_t address = from[i] + (uint64_t)(int64_t)(int32_t)insn->aux;
                const uint8_t *source;

                if (address & (insn->bytes - 1u))
                        return ptx_fault_at(warp, PTX_MISALIGNED, i, address, "cp.async source is misaligned");
                source = ptx_resolve_generic(warp, i, address, bytes, false, NULL);
                if (bytes && !source)
                        return ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, i, address, "cp.async source is out of bounds");
                for (unsigned k = 0; k < insn->bytes; k++)
                        STORE(u8, place[i] + k, k < bytes ? LOAD(u8, source + k) : 0);
        }
        return 0;
}
