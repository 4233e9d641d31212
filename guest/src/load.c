/* Small things around loading: files, and lists of names that the host sends. */
#include "function.h"
#include "image.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_BYTES_MAX (4u << 20) /* the limit of the rows that bring them */
#define NAMES_BYTES_FIRST (64u << 10)

static CUresult read_all(int file, uint8_t *contents, uint64_t bytes)
{
        for (uint64_t done = 0; done < bytes;) {
                const ssize_t step = read(file, contents + done, bytes - done);
                if (step < 0 && errno == EINTR)
                        continue;
                if (step <= 0)
                        return CUDA_ERROR_INVALID_IMAGE; /* shorter than it was a moment ago */
                done += (uint64_t)step;
        }
        contents[bytes] = 0;
        return CUDA_SUCCESS;
}

CUresult ivg_file_read(const char *path, void **contents, uint64_t *bytes)
{
        struct stat status;
        CUresult result = CUDA_ERROR_FILE_NOT_FOUND;
        const int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
                return result;
        if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
                goto end;
        result = CUDA_ERROR_INVALID_IMAGE;
        if ((uint64_t)status.st_size > IVG_IMAGE_BYTES_MAX)
                goto end;
        *bytes = (uint64_t)status.st_size;
        *contents = malloc(*bytes + 1);
        result = *contents != NULL ? read_all(file, *contents, *bytes) : CUDA_ERROR_OUT_OF_MEMORY;
        if (result != CUDA_SUCCESS)
                free(*contents);
end:
        close(file);
        return result;
}

CUresult ivg_image_load(const void *image, struct ivg_flat_image *flat)
{
        switch (ivg_image_open(image, flat)) {
        case 0:
                return CUDA_SUCCESS;
        case -E2BIG:
                ivg_log("module image of more than %llu bytes: not carried", (unsigned long long)IVG_IMAGE_BYTES_MAX);
                return CUDA_ERROR_INVALID_IMAGE;
        case -ENOMEM:
                return CUDA_ERROR_OUT_OF_MEMORY;
        default:
                return CUDA_ERROR_INVALID_IMAGE;
        }
}

/* True when `bytes` bytes at `names` hold `count` strings, each with its NUL. */
static bool names_are_complete(const char *names, uint64_t bytes, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                const size_t length = strnlen(names, bytes);
                if (length == bytes)
                        return false;
                names += length + 1;
                bytes -= length + 1;
        }
        return true;
}

CUresult ivg_names_fetch(ivg_ask_names ask, ivg_id owner, char **names, uint32_t *count)
{
        uint64_t capacity = NAMES_BYTES_FIRST;
        for (uint32_t attempt = 0; attempt < 2; attempt++) { /* the second time with the length that it needs */
                uint64_t needed = 0;
                *names = calloc(1, capacity);
                if (*names == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                CUresult result = ask(owner, *names, capacity, count, &needed);
                if (result == CUDA_SUCCESS && needed <= capacity) {
                        if (names_are_complete(*names, capacity, *count))
                                return CUDA_SUCCESS;
                        result = CUDA_ERROR_UNKNOWN;
                }
                free(*names);
                if (result != CUDA_SUCCESS)
                        return result;
                if (needed > NAMES_BYTES_MAX)
                        return ivg_refuse("enumeration of more than 4 MiB of kernel names");
                capacity = needed;
        }
        return CUDA_ERROR_UNKNOWN;
}
