/* cuGraphDebugDotPrint: the host's driver draws, this process writes the file that the program has named. */
#include "cuda_api.h"
#include "guest_send.h"
#include <stdio.h>
#include <stdlib.h>

#define TEXT_BYTES_FIRST (64u << 10)
#define TEXT_BYTES_MAX (64u << 20) /* of a row's range */

static CUresult write_file(const char *path, const char *text, uint64_t bytes)
{
        FILE *file = fopen(path, "we");
        bool written;

        if (file == NULL)
                return CUDA_ERROR_OPERATING_SYSTEM;
        written = fwrite(text, 1, bytes, file) == bytes;
        return fclose(file) == 0 && written ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

/* Asks until the text fits: it may have grown meanwhile, by another thread's doing. */
static CUresult fetch(ivg_id graph, unsigned int flags, char **text, uint64_t *bytes)
{
        uint64_t room = TEXT_BYTES_FIRST;

        for (;;) {
                *text = malloc(room);
                if (*text == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                const CUresult result = ivg_send_ivgGraphDebugDot(graph, flags, *text, room, bytes);
                if (result == CUDA_SUCCESS && *bytes <= room)
                        return CUDA_SUCCESS;
                free(*text);
                if (result != CUDA_SUCCESS)
                        return result;
                if (*bytes > TEXT_BYTES_MAX)
                        return ivg_refuse("cuGraphDebugDotPrint of more than 64 MiB");
                room = *bytes;
        }
}

CUresult cuGraphDebugDotPrint(CUgraph hGraph, const char *path, unsigned int flags)
{
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, hGraph);
        struct ivg_object *context;
        uint64_t bytes = 0;
        char *text;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (graph == NULL || path == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = fetch(graph->id, flags, &text, &bytes);
        if (result != CUDA_SUCCESS)
                return result;
        result = write_file(path, text, bytes);
        free(text);
        return result;
}
