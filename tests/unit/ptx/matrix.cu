// arch: compute_80
// Tensor core instructions by hand: one warp multiplies A (16 x K, row by row) by B (K x 8, column by column).
typedef unsigned u32;
typedef unsigned short u16;

// Two neighbours of a row of A, or of a column of B, in one register; tf32 is one element.
__device__ u32 pair(const u16 *m, int stride, int row, int column)
{
        return m[row * stride + column] | (u32)m[row * stride + column + 1] << 16;
}

#define HALF_KERNEL(NAME, K, TYPE)                                                                                     \
        extern "C" __global__ void NAME(const u16 *a, const u16 *b, const float *c, float *d)                          \
        {                                                                                                              \
                int g = threadIdx.x / 4, t = threadIdx.x % 4;                                                          \
                u32 x[4], y[2];                                                                                        \
                float z[4];                                                                                            \
                for (int i = 0; i < 4; i++)                                                                            \
                        if (i < K / 4)                                                                                 \
                                x[i] = pair(a, K, g + 8 * (i & 1), 2 * t + 8 * (i / 2));                               \
                for (int i = 0; i < K / 8; i++)                                                                        \
                        y[i] = pair(b, K, g, 2 * t + 8 * i);                                                           \
                for (int i = 0; i < 4; i++)                                                                            \
                        z[i] = c[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)];                                             \
                MMA_##K("mma.sync.aligned.m16n8k" #K ".row.col.f32." TYPE "." TYPE ".f32 ");                           \
                for (int i = 0; i < 4; i++)                                                                            \
                        d[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)] = z[i];                                             \
        }
#define MMA_8(TEXT)                                                                                                    \
        asm volatile(TEXT "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"                                        \
                     : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])                                                  \
                     : "r"(x[0]), "r"(x[1]), "r"(y[0]))
#define MMA_16(TEXT)                                                                                                   \
        asm volatile(TEXT "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                            \
                     : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])                                                  \
                     : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]))
HALF_KERNEL(mma_f16_k8, 8, "f16")
HALF_KERNEL(mma_f16_k16, 16, "f16")
HALF_KERNEL(mma_bf16_k16, 16, "bf16")

extern "C" __global__ void mma_f16_f16(const u16 *a, const u16 *b, const u16 *c, u16 *d)
{
        int g = threadIdx.x / 4, t = threadIdx.x % 4;
        u32 x[4], y[2], z[2];
        for (int i = 0; i < 4; i++)
                x[i] = pair(a, 16, g + 8 * (i & 1), 2 * t + 8 * (i / 2));
        for (int i = 0; i < 2; i++) {
                y[i] = pair(b, 16, g, 2 * t + 8 * i);
                z[i] = pair(c, 8, g + 8 * i, 2 * t);
        }
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
                     : "+r"(z[0]), "+r"(z[1])
                     : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
        for (int i = 0; i < 2; i++) {
                d[(g + 8 * i) * 8 + 2 * t] = (u16)z[i];
                d[(g + 8 * i) * 8 + 2 * t + 1] = (u16)(z[i] >> 16);
        }
}

extern "C" __global__ void mma_tf32_k8(const float *a, const float *b, const float *c, float *d)
{
        int g = threadIdx.x / 4, t = threadIdx.x % 4;
        u32 x[4], y[2];
        float z[4];
        for (int i = 0; i < 4; i++)
                asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(x[i]) : "f"(a[(g + 8 * (i & 1)) * 8 + t + 4 * (i / 2)]));
        for (int i = 0; i < 2; i++)
                asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y[i]) : "f"(b[g * 8 + t + 4 * i]));
        for (int i = 0; i < 4; i++)
                z[i] = c[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)];
        MMA_16("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 ");
        for (int i = 0; i < 4; i++)
                d[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)] = z[i];
}

extern "C" __global__ void mma_s8_k32(const u32 *a, const u32 *b, const int *c, int *d)
{
        int g = threadIdx.x / 4, t = threadIdx.x % 4;
        u32 x[4], y[2];
        int z[4];
        for (int i = 0; i < 4; i++)
                x[i] = a[(g + 8 * (i & 1)) * 8 + t + 4 * (i / 2)];
        for (int i = 0; i < 2; i++)
                y[i] = b[g * 8 + t + 4 * i];
        for (int i = 0; i < 4; i++)
                z[i] = c[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)];
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
                     "%2, %3};"
                     : "+r"(z[0]), "+r"(z[1]), "+r"(z[2]), "+r"(z[3])
                     : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
        for (int i = 0; i < 4; i++)
                d[(g + 8 * (i / 2)) * 8 + 2 * t + (i & 1)] = z[i];
}

// Four 8 x 8 matrices of shared memory, plain and transposed, as a mma operand wants them.
extern "C" __global__ void load_matrices(const u16 *in, u32 *out)
{
        __shared__ __align__(16) u16 s[32 * 8];
        for (int i = threadIdx.x; i < 256; i += 32)
                s[i] = in[i];
        __syncthreads();
        u32 address = (u32)__cvta_generic_to_shared(&s[threadIdx.x * 8]), r[4], x[2], y;
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address));
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(x[0]), "=r"(x[1])
                     : "r"(address));
        asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(r[0]));
        for (int i = 0; i < 4; i++)
                out[i * 32 + threadIdx.x] = r[i];
        out[128 + threadIdx.x] = x[0];
        out[160 + threadIdx.x] = x[1];
        out[192 + threadIdx.x] = y;
}
