// arch: compute_75
// flags: -use_fast_math
// The same in the fast forms: .approx and .ftz everywhere.
extern "C" __global__ void fast(const float *a, const float *b, float *out)
{
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        float x = a[i], y = b[i];
        out[i * 8] = sinf(x);
        out[i * 8 + 1] = expf(x);
        out[i * 8 + 2] = logf(fabsf(y));
        out[i * 8 + 3] = x / y;
        out[i * 8 + 4] = sqrtf(fabsf(x));
        out[i * 8 + 5] = powf(fabsf(x), 1.5f);
        out[i * 8 + 6] = fminf(x, y) * 0.5f + fmaxf(x, y);
        out[i * 8 + 7] = x > y ? rsqrtf(fabsf(x)) : fmaf(x, y, 1.0f);
}
