/* What kernels print reaches this program's stdout, in order with its own text, when a synchronization is over.
 *   printf          lines of kernels
 *   printf assert   a failed assertion: its error, and its message on stderr */
#include "check.h"
#include <unistd.h>

enum { LINES = 4096, ROUNDS = 3 };

PTX_FILE(printf_ptx, IVG_PRINTF_PTX);

static CUmodule module;

/* Everything that goes to `fd` while the test runs goes to a file. */
static int saved;
static FILE *catch_begin(int fd)
{
        FILE *file = tmpfile();
        CHECK(file != NULL, "no temporary file");
        fflush(NULL);
        saved = dup(fd);
        CHECK(saved >= 0 && dup2(fileno(file), fd) >= 0, "dup2");
        return file;
}

static void catch_end(int fd)
{
        fflush(NULL);
        CHECK(dup2(saved, fd) >= 0, "dup2");
        close(saved);
}

static char *text_of(FILE *file)
{
        static char text[1 << 20];
        rewind(file);
        const size_t bytes = fread(text, 1, sizeof(text) - 1, file);
        text[bytes] = 0;
        fclose(file);
        return text;
}

static void print(int round, CUstream stream)
{
        void *parameters[] = {&round};
        CU(cuLaunchKernel(test_function(module, "print_lines"), LINES / 64, 1, 1, 64, 1, 1, 0, stream, parameters,
                          NULL));
}

/* Each round: all its lines, once each, between the program's own two. */
static void check_text(char *text)
{
        static char seen[ROUNDS][LINES];
        int round = -1, lines = 0;
        memset(seen, 0, sizeof(seen));
        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
                int number, of, end = 0;
                if (sscanf(line, "begin %d%n", &number, &end) == 1 && line[end] == 0) {
                        CHECK(number == round + 1 && lines == 0, "\"%s\" in round %d", line, round);
                        round = number;
                } else if (sscanf(line, "end %d%n", &number, &end) == 1 && line[end] == 0) {
                        CHECK(number == round && lines == LINES, "\"%s\" after %d lines of round %d", line, lines,
                              round);
                        lines = 0;
                } else {
                        CHECK(sscanf(line, "line %d of round %d, half 0.50%n", &number, &of, &end) == 2 &&
                                      line[end] == 0,
                              "strange line \"%s\"", line);
                        CHECK(of == round && number >= 0 && number < LINES, "\"%s\" in round %d", line, round);
                        CHECK(seen[round][number]++ == 0, "\"%s\" twice", line);
                        lines++;
                }
        }
        CHECK(round == ROUNDS - 1 && lines == 0, "the text ends in round %d after %d lines", round, lines);
}

static void lines_come_in_order(void)
{
        CUstream stream;
        CUevent event;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&event, CU_EVENT_DEFAULT));
        FILE *file = catch_begin(STDOUT_FILENO);
        for (int round = 0; round < ROUNDS; round++) {
                printf("begin %d\n", round);
                fflush(stdout);
                print(round, round == 0 ? NULL : stream);
                CU(round == 1 ? cuStreamSynchronize(stream) : cuCtxSynchronize());
                printf("end %d\n", round);
                fflush(stdout);
        }
        catch_end(STDOUT_FILENO);
        check_text(text_of(file));
        CU(cuEventDestroy_v2(event));
        CU(cuStreamDestroy_v2(stream));
}

static void an_assertion_ends_the_context(void)
{
        int limit = 5;
        void *parameters[] = {&limit};
        CUdeviceptr memory;
        FILE *file = catch_begin(STDERR_FILENO);
        CU(cuLaunchKernel(test_function(module, "assert_below"), 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
        const CUresult result = cuCtxSynchronize();
        catch_end(STDERR_FILENO);
        CHECK(result == CUDA_ERROR_ASSERT, "cuCtxSynchronize answered %d", (int)result);
        CU_EXPECT(CUDA_ERROR_ASSERT, cuMemAlloc_v2(&memory, 4096));
        const char *text = text_of(file);
        CHECK(strstr(text, "printf.cu") && strstr(text, "threadIdx.x < limit"), "stderr has \"%s\"", text);
}

int main(int argc, char **argv)
{
        test_context();
        CU(cuModuleLoadData(&module, printf_ptx));
        if (argc > 1 && strcmp(argv[1], "assert") == 0) {
                an_assertion_ends_the_context();
                puts("printf assert: error and message");
                return 0;
        }
        lines_come_in_order();
        puts("printf: every line in its place");
        return 0;
}
