/* Moving bytes past the caches: for a target that no processor reads soon. An ordinary store first fetches the line
 * that it is about to overwrite; a non-temporal one does not, a third less traffic, and leaves the program's data where
 * it is in the caches. Measured: docs/measurements.md. */
#include "memory.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>

#define LINE_BYTES 64u

/* Each: `lines` cache lines to an aligned target from anywhere. */
static void move_lines_sse2(uint8_t *to, const uint8_t *from, size_t lines)
{
        for (; lines > 0; lines--, to += LINE_BYTES, from += LINE_BYTES)
                for (uint32_t i = 0; i < LINE_BYTES; i += 16)
                        _mm_stream_si128((__m128i *)(void *)(to + i),
                                         _mm_loadu_si128((const __m128i *)(const void *)(from + i)));
}

__attribute__((target("avx2"))) static void move_lines_avx2(uint8_t *to, const uint8_t *from, size_t lines)
{
        for (; lines > 0; lines--, to += LINE_BYTES, from += LINE_BYTES) {
                const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)from);
                const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(from + 32));

                _mm256_stream_si256((__m256i *)(void *)to, low);
                _mm256_stream_si256((__m256i *)(void *)(to + 32), high);
        }
}

__attribute__((target("avx512f"))) static void move_lines_avx512(uint8_t *to, const uint8_t *from, size_t lines)
{
        for (; lines > 0; lines--, to += LINE_BYTES, from += LINE_BYTES)
                _mm512_stream_si512((void *)to, _mm512_loadu_si512((const void *)from));
}

typedef void (*move_lines)(uint8_t *to, const uint8_t *from, size_t lines);

static move_lines move_lines_best(void)
{
        if (__builtin_cpu_supports("avx512f"))
                return move_lines_avx512;
        return __builtin_cpu_supports("avx2") ? move_lines_avx2 : move_lines_sse2;
}

void ivg_copy_bytes_past_caches(uint8_t *to, const uint8_t *from, size_t bytes)
{
        const size_t head = -(uintptr_t)to % LINE_BYTES;

        if (bytes < head + LINE_BYTES) {
                memcpy(to, from, bytes);
                return;
        }
        memcpy(to, from, head);
        to += head;
        from += head;
        bytes -= head;
        move_lines_best()(to, from, bytes / LINE_BYTES);
        memcpy(to + bytes / LINE_BYTES * LINE_BYTES, from + bytes / LINE_BYTES * LINE_BYTES, bytes % LINE_BYTES);
        /* Non-temporal stores are ordered by nothing else: the release that follows would not hold them. */
        _mm_sfence();
}
#else
void ivg_copy_bytes_past_caches(uint8_t *to, const uint8_t *from, size_t bytes)
{
        memcpy(to, from, bytes);
}
#endif
