// arch: compute_75
// Ordinary CUDA C++: memory, control flow, calls, blocks working together.
#include <assert.h>
#include <cooperative_groups.h>
#include <cuda_fp16.h>
#include <stdio.h>

namespace cg = cooperative_groups;
typedef unsigned u32;
typedef unsigned long long u64;

extern "C" __global__ void vector_add(const float *a, const float *b, float *c, int n)
{
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n)
                c[i] = a[i] + b[i];
}

#define TILE 16
extern "C" __global__ void matmul(const float *a, const float *b, float *c, int n)
{
        __shared__ float x[TILE][TILE], y[TILE][TILE];
        int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
        float sum = 0;
        for (int t = 0; t < n / TILE; t++) {
                x[threadIdx.y][threadIdx.x] = a[row * n + t * TILE + threadIdx.x];
                y[threadIdx.y][threadIdx.x] = b[(t * TILE + threadIdx.y) * n + column];
                __syncthreads();
                for (int k = 0; k < TILE; k++)
                        sum += x[threadIdx.y][k] * y[k][threadIdx.x];
                __syncthreads();
        }
        c[row * n + column] = sum;
}

extern "C" __global__ void reduce_shared(const int *in, int *out, int n)
{
        extern __shared__ int part[];
        int sum = 0;
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
                sum += in[i];
        part[threadIdx.x] = sum;
        __syncthreads();
        for (int half = blockDim.x / 2; half > 0; half /= 2) {
                if (threadIdx.x < half)
                        part[threadIdx.x] += part[threadIdx.x + half];
                __syncthreads();
        }
        if (threadIdx.x == 0)
                atomicAdd(out, part[0]);
}

extern "C" __global__ void scan_warp(const int *in, int *out)
{
        int lane = threadIdx.x & 31, value = in[threadIdx.x];
        for (int step = 1; step < 32; step *= 2) {
                int other = __shfl_up_sync(~0u, value, step);
                if (lane >= step)
                        value += other;
        }
        __shared__ int totals[32];
        if (lane == 31)
                totals[threadIdx.x / 32] = value;
        __syncthreads();
        for (int w = 0; w < threadIdx.x / 32; w++)
                value += totals[w];
        out[threadIdx.x] = value;
}

extern "C" __global__ void shuffles(const int *in, int *out)
{
        int lane = threadIdx.x, v = in[lane];
        out[lane] = __shfl_xor_sync(~0u, v, 5);
        out[32 + lane] = __shfl_sync(~0u, v, lane * 7, 8);
        out[64 + lane] = __shfl_down_sync(~0u, v, 3, 16);
        out[96 + lane] = __shfl_up_sync(~0u, v, 2, 4);
        out[128 + lane] = __ballot_sync(~0u, v & 1);
        out[160 + lane] = __any_sync(~0u, v == 17) * 2 + __all_sync(~0u, v >= 0);
        out[192 + lane] = __match_any_sync(~0u, v & 3);
        int pred;
        out[224 + lane] = __match_all_sync(~0u, v, &pred) + pred;
        out[256 + lane] = __popc(__activemask());
        if (lane & 1)
                out[288 + lane] = __ballot_sync(0xaaaaaaaau, v & 2) + __shfl_sync(0xaaaaaaaau, v, 3);
        else
                out[288 + lane] = __shfl_xor_sync(0x55555555u, v, 2);
        double d = v * 0.5;
        out[320 + lane] = (int)__shfl_sync(~0u, d, 31 - lane);
}

extern "C" __global__ void histogram(const unsigned char *in, u32 *bins, int n)
{
        __shared__ u32 local[256];
        for (int i = threadIdx.x; i < 256; i += blockDim.x)
                local[i] = 0;
        __syncthreads();
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
                atomicAdd(&local[in[i]], 1u);
        __syncthreads();
        for (int i = threadIdx.x; i < 256; i += blockDim.x)
                atomicAdd(&bins[i], local[i]);
}

extern "C" __global__ void atomics(int *i, u32 *u, u64 *l, float *f, double *d, __half2 *h)
{
        int t = blockIdx.x * blockDim.x + threadIdx.x;
        atomicAdd(&i[0], t);
        atomicSub(&i[1], t);
        atomicMin(&i[2], 100 - t);
        atomicMax(&i[3], t * 3);
        atomicAnd(&u[0], ~(1u << (t & 31)));
        atomicOr(&u[1], 1u << (t & 15));
        atomicXor(&u[2], t);
        atomicInc(&u[3], 9);
        atomicDec(&u[4], 6);
        atomicMax(&u[5], (u32)t * 0x10000000u);
        atomicAdd(&l[0], (u64)t << 32);
        atomicMax(&l[1], (u64)t * t);
        atomicAdd(f, 0.5f);
        atomicAdd(d, 0.25);
        atomicAdd(h, __floats2half2_rn(1.0f, 2.0f));
        u32 old = u[6];
        u32 seen;
        do {
                seen = old;
                old = atomicCAS(&u[6], seen, seen + 2);
        } while (old != seen);
        u64 was = atomicExch(&l[2], (u64)t);
        atomicAdd(&l[3], was);
        unsigned short *s = (unsigned short *)&u[7];
        unsigned short old16 = *s, seen16;
        do {
                seen16 = old16;
                old16 = atomicCAS(s, seen16, (unsigned short)(seen16 + 1));
        } while (old16 != seen16);
}

extern "C" __global__ void mandelbrot(u32 *out, int width)
{
        int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
        float cr = x * (3.0f / width) - 2.0f, ci = y * (2.0f / width) - 1.0f, zr = 0, zi = 0;
        u32 n = 0;
        while (n < 200 && __fadd_rn(__fmul_rn(zr, zr), __fmul_rn(zi, zi)) < 4.0f) {
                float t = __fadd_rn(__fsub_rn(__fmul_rn(zr, zr), __fmul_rn(zi, zi)), cr);
                zi = __fadd_rn(__fmul_rn(2.0f, __fmul_rn(zr, zi)), ci);
                zr = t;
                n++;
        }
        out[y * width + x] = n;
}

extern "C" __global__ void bitonic_sort(u32 *data)
{
        __shared__ u32 s[512];
        s[threadIdx.x] = data[threadIdx.x];
        s[threadIdx.x + 256] = data[threadIdx.x + 256];
        for (int k = 2; k <= 512; k *= 2)
                for (int j = k / 2; j > 0; j /= 2) {
                        __syncthreads();
                        int i = 2 * threadIdx.x - (threadIdx.x & (j - 1)), p = i + j;
                        if ((s[i] > s[p]) == ((i & k) == 0)) {
                                u32 t = s[i];
                                s[i] = s[p];
                                s[p] = t;
                        }
                }
        __syncthreads();
        data[threadIdx.x] = s[threadIdx.x];
        data[threadIdx.x + 256] = s[threadIdx.x + 256];
}

// Every lane of every warp takes one lock: some lane of a warp waits for another lane of it.
extern "C" __global__ void spin_lock(int *lock, volatile int *counter)
{
        bool done = false;
        while (!done)
                if (atomicCAS(lock, 0, 1) == 0) {
                        __threadfence();
                        *counter = *counter + 1;
                        __threadfence();
                        atomicExch(lock, 0);
                        done = true;
                }
}

extern "C" __global__ void spin_lock_plain(int *lock, volatile int *counter)
{
        while (atomicCAS(lock, 0, 1) != 0)
                ;
        __threadfence();
        *counter = *counter + 1;
        __threadfence();
        atomicExch(lock, 0);
}

// The lower half waits for the upper half of the same warp, which comes later in the text.
extern "C" __global__ void lanes_wait(volatile int *flag, int *out)
{
        if (threadIdx.x < 16) {
                while (*flag == 0)
                        ;
                out[threadIdx.x] = *flag;
        } else {
                out[threadIdx.x] = 1;
                __threadfence();
                if (threadIdx.x == 31)
                        *flag = 7;
        }
}

// Block i waits for block i - 1: earlier blocks must get on.
extern "C" __global__ void chained_blocks(volatile int *sums, int *out)
{
        if (threadIdx.x == 0) {
                int before = 0;
                if (blockIdx.x > 0)
                        while ((before = sums[blockIdx.x - 1]) == 0)
                                ;
                sums[blockIdx.x] = before + blockIdx.x + 1;
                __threadfence();
                out[blockIdx.x] = sums[blockIdx.x];
        }
}

extern "C" __global__ void grid_sync(int *data, int *out, int rounds)
{
        cg::grid_group grid = cg::this_grid();
        int n = grid.size(), i = grid.thread_rank();
        for (int r = 0; r < rounds; r++) {
                int next = data[(r & 1) * n + (i + 1) % n] + 1;
                data[(~r & 1) * n + i] = next;
                grid.sync();
        }
        out[i] = data[(rounds & 1) * n + i] + 1000 * grid.is_valid();
}

struct point {
        int a;
        double b;
        char c[5];
        float v[3];
};
__device__ __noinline__ point change(point p, int by)
{
        p.a += by;
        p.b *= by;
        p.c[by & 3] = (char)by;
        for (int i = 0; i < 3; i++)
                p.v[i] += i * by;
        return p;
}
extern "C" __global__ void structures(point p, int *out, double *reals)
{
        int t = threadIdx.x;
        point q = change(change(p, t), 3);
        out[t] = q.a + q.c[0] + q.c[1] * 2 + q.c[2] * 4 + q.c[3] * 8 + q.c[4];
        reals[t] = q.b + q.v[0] + q.v[1] + q.v[2];
}

__device__ __noinline__ int fibonacci(int n)
{
        return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
extern "C" __global__ void recursion(int *out)
{
        out[threadIdx.x] = fibonacci(threadIdx.x % 13);
}

typedef int (*function)(int, int);
__device__ __noinline__ int f_add(int a, int b) { return a + b; }
__device__ __noinline__ int f_mul(int a, int b) { return a * b; }
__device__ __noinline__ int f_sub(int a, int b) { return a - b; }
__device__ function table[3] = {f_add, f_mul, f_sub};
extern "C" __global__ void function_pointers(int *out)
{
        out[threadIdx.x] = table[threadIdx.x % 3](threadIdx.x, 5);
}

struct shape {
        __device__ virtual int area(int x) { return x; }
        int scale;
};
struct square : shape {
        __device__ int area(int x) override { return x * x * scale; }
};
struct other : shape {
        __device__ int area(int x) override { return x * scale + 1; }
};
extern "C" __global__ void virtual_calls(int *out)
{
        square s;
        other o;
        s.scale = 2;
        o.scale = 3;
        shape *which[2] = {&s, &o};
        out[threadIdx.x] = which[threadIdx.x & 1]->area(threadIdx.x);
}

extern "C" __global__ void switches(const int *in, int *out)
{
        int v = in[threadIdx.x], r;
        switch (v) {
        case 0: r = 11; break;
        case 1: r = v * 3 + 1; break;
        case 2: r = __popc(threadIdx.x); break;
        case 3: r = -5; break;
        case 4: r = threadIdx.x * threadIdx.x; break;
        case 5: r = 77; break;
        case 6: r = v << threadIdx.x % 8; break;
        case 9: r = 1234; break;
        default: r = -1; break;
        }
        out[threadIdx.x] = r;
}

__constant__ int weights[8] = {1, -2, 3, -4, 5, -6, 7, -8};
__constant__ float late[4];
__device__ int counter = 40;
__device__ int *counter_address = &counter;
__device__ const char text[] = "global text";
__device__ double numbers[2][3] = {{1.5, 2.5, 3.5}, {-1, -2}};
extern "C" __global__ void module_variables(int *out)
{
        int t = threadIdx.x;
        atomicAdd(counter_address, 1);
        out[t] = weights[t & 7] * text[t % 11] + (int)(numbers[t & 1][t % 3] * 2) + (int)late[t & 3];
}

extern "C" __global__ void local_arrays(const int *in, int *out)
{
        int stack[24], top = 0;
        for (int i = 0; i < 24; i++) {
                int v = in[(threadIdx.x + i) % 64];
                if (v & 1 || top == 0)
                        stack[top++] = v;
                else
                        v += stack[--top];
                if (top)
                        stack[top / 2] ^= v;
        }
        int sum = top;
        for (int i = 0; i < top; i++)
                sum = sum * 31 + stack[i];
        out[threadIdx.x] = sum;
}

extern "C" __global__ void indices(u32 *out)
{
        u32 block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        u32 thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        u32 size = blockDim.x * blockDim.y * blockDim.z;
        u32 lane, warp, lt;
        asm("mov.u32 %0, %%laneid;" : "=r"(lane));
        asm("mov.u32 %0, %%warpid;" : "=r"(warp));
        asm("mov.u32 %0, %%lanemask_lt;" : "=r"(lt));
        out[block * size + thread] = threadIdx.x | threadIdx.y << 4 | threadIdx.z << 8 | blockIdx.x << 12 |
                                     blockIdx.y << 16 | blockIdx.z << 20 |
                                     (lane == thread % 32 && warp == thread / 32 && lt == (1u << lane) - 1) << 24;
}

extern "C" __global__ void barrier_votes(const int *in, int *out)
{
        int v = in[threadIdx.x];
        int count = __syncthreads_count(v > 10), all = __syncthreads_and(v >= 0), any = __syncthreads_or(v == 63);
        out[threadIdx.x] = count * 4 + (all != 0) * 2 + (any != 0);
}

// Two halves of the block meet at barriers of their own; a producer warp arrives without waiting.
extern "C" __global__ void named_barriers(int *out)
{
        __shared__ int box[128];
        int half = threadIdx.x / 64, t = threadIdx.x;
        box[t] = t * 3;
        asm volatile("bar.sync %0, 64;" ::"r"(half + 1) : "memory");
        int partner = box[half * 64 + (t + 17) % 64];
        if (t < 32) {
                asm volatile("bar.sync 3, 64;" ::: "memory");
                box[t] = 1000 + t;
                asm volatile("bar.arrive 4, 64;" ::: "memory");
        } else if (t < 64) {
                asm volatile("bar.sync 3, 64;" ::: "memory");
                asm volatile("bar.sync 4, 64;" ::: "memory");
                partner += box[t - 32];
        }
        out[t] = partner;
}

// __syncthreads in diverged code: legal since sm_70 as long as every thread arrives.
extern "C" __global__ void diverged_barrier(int *out)
{
        __shared__ int s[64];
        if (threadIdx.x & 1) {
                s[threadIdx.x] = 5;
                __syncthreads();
                out[threadIdx.x] = s[threadIdx.x - 1];
        } else {
                s[threadIdx.x] = 9;
                __syncthreads();
                out[threadIdx.x] = s[threadIdx.x + 1];
        }
}

extern "C" __global__ void early_exit(int *out)
{
        __shared__ int s[96];
        if (threadIdx.x >= 70)
                return;
        s[threadIdx.x] = threadIdx.x;
        __syncthreads();
        if (threadIdx.x < 10)
                return;
        int v = __ballot_sync(threadIdx.x < 32 ? 0xfffffc00u : ~0u, s[threadIdx.x] & 1);
        __syncthreads();
        out[threadIdx.x] = s[(threadIdx.x + 1) % 70] + v;
}

extern "C" __global__ void prints(int *in)
{
        int t = threadIdx.x;
        if (t == 2)
                printf("plain %d %u %x|%5d|%-5d|%05d %c %s %% %lld %llu\n", -t, 7u, 255, t, t, t, 'q', "words", -1234567890123ll,
                       ~0ull);
        if (t == 0)
                in[0] = printf("real %f %.3e %g %10.2f %s\n", 1.5, 12345.678, 0.1, -2.0, (const char *)text);
}

extern "C" __global__ void asserts(int *in, int limit)
{
        assert(in[threadIdx.x] < limit);
        in[threadIdx.x] = -1;
}

struct node {
        int value;
        node *next;
};
extern "C" __global__ void device_malloc(int *out, int n)
{
        node *list = nullptr;
        for (int i = 0; i < n; i++) {
                node *x = (node *)malloc(sizeof(node));
                x->value = i * threadIdx.x;
                x->next = list;
                list = x;
        }
        int sum = 0;
        while (list) {
                node *next = list->next;
                sum += list->value;
                free(list);
                list = next;
        }
        out[threadIdx.x] = sum;
}
extern "C" __global__ void malloc_too_much(void **out)
{
        out[0] = malloc(1u << 30);
}

extern "C" __global__ void long_division(const long long *a, const long long *b, long long *out)
{
        int i = threadIdx.x;
        out[i] = a[i] / b[i] + a[i] % b[i] + (long long)((u64)a[i] / 10) + (u32)a[i] / 7u;
}

extern "C" __global__ void byte_copies(const char *in, char *out, int n)
{
        int i = threadIdx.x;
        if (i < n / 16) {
                ((int4 *)out)[i] = ((const int4 *)in)[i];
                short2 s = ((const short2 *)in)[i];
                s.x += s.y;
                ((short2 *)(out + n))[i] = s;
                uchar4 c = ((const uchar4 *)in)[i];
                c.w = c.x - c.y;
                ((uchar4 *)(out + 2 * n))[i] = c;
                double2 d = ((const double2 *)in)[i];
                ((double2 *)(out + 3 * n))[i] = make_double2(d.y, d.x);
                signed char b = in[i];
                ((short *)(out + 4 * n))[i] = b;
        }
}

extern "C" __global__ void spaces(int *out)
{
        __shared__ int s[64];
        int l[4];
        for (int i = 0; i < 4; i++)
                l[i] = threadIdx.x + i;
        s[threadIdx.x] = 5;
        int *p = threadIdx.x & 1 ? &s[threadIdx.x] : &l[threadIdx.x & 3];
        *p += 2;
        __syncthreads();
        out[threadIdx.x] = *p + s[threadIdx.x] * 100 + l[threadIdx.x & 3] * 10000 + __isShared(p) * 1000000 +
                           __isLocal(p) * 2000000 + __isGlobal(out) * 4000000;
}

// Nested divergence with data-dependent trip counts, meeting at __syncwarp.
extern "C" __global__ void nested_loops(const int *in, int *out)
{
        __shared__ int s[64];
        int v = in[threadIdx.x], sum = 0;
        for (int i = 0; i < v; i++) {
                if (i % 3 == 0) {
                        for (int k = 0; k < (int)threadIdx.x % 5; k++) {
                                sum += k * i;
                                if (sum % 11 == 3)
                                        break;
                        }
                } else if (i % 7 == 4) {
                        sum ^= i;
                        continue;
                }
                sum += 1;
        }
        s[threadIdx.x] = sum;
        __syncwarp();
        out[threadIdx.x] = sum + s[threadIdx.x ^ 1];
}

// Lanes meet at different bar.warp.sync instructions.
extern "C" __global__ void warp_barriers(int *out)
{
        __shared__ int s[32];
        if (threadIdx.x < 8) {
                s[threadIdx.x] = 10;
                __syncwarp(0x00ffu);
                out[threadIdx.x] = s[7 - threadIdx.x];
                __syncwarp();
        } else {
                s[threadIdx.x] = threadIdx.x;
                __syncwarp(0xffffff00u);
                out[threadIdx.x] = s[39 - threadIdx.x];
                __syncwarp();
        }
        out[threadIdx.x] += s[(threadIdx.x + 8) % 32];
}

extern "C" __global__ void cooperative_tiles(const int *in, int *out)
{
        auto block = cg::this_thread_block();
        auto tile = cg::tiled_partition<8>(block);
        int v = in[threadIdx.x];
        for (int k = 4; k > 0; k /= 2)
                v += tile.shfl_down(v, k);
        int odd = 0;
        if (in[threadIdx.x] & 1) {
                auto group = cg::coalesced_threads();
                odd = group.size() * 100 + group.thread_rank();
                group.sync();
        }
        out[threadIdx.x] = tile.shfl(v, 0) + odd * 10000 + tile.meta_group_rank();
}

extern "C" __global__ void clocks(u64 *out)
{
        u64 start = clock64();
        u64 timer;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(timer));
        u32 low = clock();
        __nanosleep(100);
        out[0] = clock64() - start;
        out[1] = timer;
        out[2] = low;
        u32 grid_low;
        asm volatile("{ .reg .u64 g; mov.u64 g, %%gridid; cvt.u32.u64 %0, g; }" : "=r"(grid_low));
        out[3] = grid_low;
}

extern "C" __global__ void endless(volatile int *flag)
{
        while (*flag == 0)
                ;
}
extern "C" __global__ void endless_barrier(volatile int *flag)
{
        while (flag[0] == 0)
                __syncthreads();
}
extern "C" __global__ void traps(int *out)
{
        out[threadIdx.x] = 1;
        if (threadIdx.x == 37)
                __trap();
}
extern "C" __global__ void write_at(int *out, long long index)
{
        out[index] = 5;
}
extern "C" __global__ void read_at(const int *in, int *out, long long index)
{
        out[0] = in[index];
}
extern "C" __global__ void shared_at(int *out, long long index)
{
        __shared__ int s[32];
        s[threadIdx.x] = threadIdx.x;
        __syncthreads();
        out[threadIdx.x] = s[index];
}
extern "C" __global__ void local_at(int *out, int index)
{
        int l[8];
        for (int i = 0; i < 8; i++)
                l[i] = out[i];
        l[index] = 3;
        out[0] = l[out[1] & 7];
}
extern "C" __global__ void read_misaligned(const char *in, int *out)
{
        out[0] = *(const int *)(in + 2);
}
extern "C" __global__ void barrier_for_some(int *out)
{
        if (threadIdx.x < 32)
                asm volatile("bar.sync 1, 96;" ::: "memory");
        out[threadIdx.x] = 1;
}
extern "C" __global__ void warp_barrier_for_some(int *out)
{
        if (threadIdx.x < 5)
                asm volatile("bar.warp.sync 0xff;" ::: "memory");
        else
                asm volatile("bar.sync 2, 64;" ::: "memory");
        out[threadIdx.x] = 1;
}
extern "C" __global__ void endless_recursion(int *out, int n)
{
        out[0] = fibonacci(n + (n << 20)); // a depth no stack has
}
extern "C" __global__ void call_nowhere(int *out, u64 where)
{
        out[0] = ((function)where)(1, 2);
}
extern "C" __global__ void __launch_bounds__(64) bounded(int *out)
{
        out[threadIdx.x] = threadIdx.x;
}
