/* The seeds of the target `calls`, from the generated samples: FOLDER/NN holds a few calls each. The numbers of
 * objects are those that the target has. */
#include "call_samples.h"
#include "ivgpu/ring.h"
#include <stdio.h>
#include <string.h>

#define CALLS_PER_FILE 6u
#define CONTEXT IVG_ID_FIRST /* FIXTURE_CONTEXT */

static int write_call(FILE *file, const struct ivg_call_sample *sample)
{
        _Alignas(8) uint8_t request[IVG_RECORD_PAYLOAD_BYTES_MAX] = {0};
        const uint16_t bytes = (uint16_t)sample->write(request);
        const struct ivg_call_header header = {.sequence_low = 2, .context = CONTEXT, .flags = IVG_CALL_WANTS_ANSWER};

        memcpy(request, &header, sizeof(header));
        return fwrite(&sample->number, sizeof(sample->number), 1, file) == 1 &&
               fwrite(&bytes, sizeof(bytes), 1, file) == 1 && fwrite(request, 1, bytes, file) == bytes;
}

int main(int argc, char **argv)
{
        char path[4096];
        FILE *file = NULL;

        if (argc != 2) {
                fprintf(stderr, "usage: fuzz_call_seeds FOLDER\n");
                return 2;
        }
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                if (i % CALLS_PER_FILE == 0) {
                        if (file && fclose(file))
                                return 1;
                        snprintf(path, sizeof(path), "%s/%03u", argv[1], i / CALLS_PER_FILE);
                        file = fopen(path, "wb");
                        if (!file) {
                                perror(path);
                                return 1;
                        }
                }
                if (!write_call(file, &ivg_call_samples[i])) {
                        perror(path);
                        return 1;
                }
        }
        return file && fclose(file) ? 1 : 0;
}
