// arch: compute_75
// flags: -diag-suppress 550
// The math library of CUDA as nvcc inlines it: long sequences of fma, tables in local and global memory, slow paths.
#define UNARY(NAME, T, CALL)                                                                                           \
        extern "C" __global__ void NAME(const T *a, const T *b, T *out)                                                \
        {                                                                                                              \
                int i = blockIdx.x * blockDim.x + threadIdx.x;                                                         \
                T x = a[i], y = b[i];                                                                                  \
                out[i] = CALL;                                                                                         \
                (void)y;                                                                                               \
        }
UNARY(m_sinf, float, sinf(x))
UNARY(m_cosf, float, cosf(x))
UNARY(m_tanf, float, tanf(x))
UNARY(m_expf, float, expf(x))
UNARY(m_logf, float, logf(fabsf(x)))
UNARY(m_powf, float, powf(fabsf(x), y))
UNARY(m_tanhf, float, tanhf(x))
UNARY(m_atan2f, float, atan2f(x, y))
UNARY(m_erff, float, erff(x))
UNARY(m_fmodf, float, fmodf(x, y))
UNARY(m_cbrtf, float, cbrtf(x))
UNARY(m_lgammaf, float, lgammaf(x))
UNARY(m_roundf, float, roundf(x) + (float)lrintf(y))
UNARY(m_ldexpf, float, ldexpf(x, (int)y % 40) + nextafterf(y, x))
UNARY(m_sin, double, sin(x))
UNARY(m_exp, double, exp(x))
UNARY(m_log, double, log(fabs(x)))
UNARY(m_pow, double, pow(fabs(x), y))
UNARY(m_atan, double, atan(x))
UNARY(m_div, double, x / y)
UNARY(m_sqrt, double, sqrt(fabs(x)) + rsqrt(fabs(y)))
UNARY(m_erf, double, erf(x))
UNARY(m_fmod, double, fmod(x, y))
