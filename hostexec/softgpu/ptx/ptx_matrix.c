#include "ptx_build.h"
#include "ptx_memory.h"
const struct ptx_decoder_entry ptx_decoders_matrix[] = {{NULL, NULL}};
