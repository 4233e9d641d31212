// The runtime API where the device reaches back to the host: host functions, managed memory, printf.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#define OK(call)                                                                                                       \
        do {                                                                                                           \
                cudaError_t e_ = (call);                                                                               \
                if (e_ != cudaSuccess) {                                                                               \
                        fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e_));         \
                        exit(1);                                                                                       \
                }                                                                                                      \
        } while (0)
#define MUST(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                  \
                        exit(1);                                                                                       \
                }                                                                                                      \
        } while (0)

__global__ void add(int *data, int n, int value)
{
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n)
                data[i] += value;
}

__global__ void speak(int n)
{
        if (threadIdx.x == 0)
                printf("kernel %d speaks\n", n);
}

struct seen {
        int *data;
        int n, expected;
        bool right;
};

static void look(void *argument)
{
        struct seen *seen = (struct seen *)argument;
        seen->right = true;
        for (int i = 0; i < seen->n; i++)
                seen->right = seen->right && seen->data[i] == seen->expected;
        seen->data[0] += 100; // and the next kernel finds it
}

static void CUDART_CB look_old(cudaStream_t, cudaError_t status, void *argument)
{
        if (status == cudaSuccess)
                look(argument);
}

static void kernels_and_functions_take_turns()
{
        const int n = 50000;
        int *data;
        cudaStream_t stream;
        OK(cudaStreamCreate(&stream));
        OK(cudaMallocManaged(&data, n * sizeof(int)));
        for (int i = 0; i < n; i++)
                data[i] = 0;
        add<<<(n + 255) / 256, 256, 0, stream>>>(data, n, 1);
        struct seen first = {data, n, 1, false}, second = {data, n, 3, false};
        OK(cudaLaunchHostFunc(stream, look, &first));
        add<<<(n + 255) / 256, 256, 0, stream>>>(data, n, 2);
        add<<<1, 1, 0, stream>>>(data, 1, -100);
        OK(cudaStreamAddCallback(stream, look_old, &second, 0));
        OK(cudaStreamSynchronize(stream));
        MUST(first.right && second.right && data[0] == 103 && data[n - 1] == 3);

        cudaPointerAttributes attributes;
        OK(cudaPointerGetAttributes(&attributes, data));
        MUST(attributes.type == cudaMemoryTypeManaged && attributes.hostPointer == data && attributes.devicePointer == data);
        int copy[2];
        OK(cudaMemcpy(copy, data, sizeof(copy), cudaMemcpyDefault));
        MUST(copy[0] == 103 && copy[1] == 3);
        OK(cudaMemset(data, 0, n * sizeof(int)));
        OK(cudaDeviceSynchronize());
        MUST(data[0] == 0 && data[n - 1] == 0);
        OK(cudaFree(data));
        OK(cudaStreamDestroy(stream));
}

static void kernels_speak()
{
        char text[200] = "";
        FILE *file = tmpfile();
        MUST(file != NULL);
        fflush(stdout);
        const int saved = dup(1);
        MUST(saved >= 0 && dup2(fileno(file), 1) >= 0);
        speak<<<1, 32>>>(1);
        OK(cudaDeviceSynchronize());
        printf("the program speaks\n");
        fflush(stdout);
        speak<<<1, 32>>>(2);
        OK(cudaDeviceSynchronize());
        fflush(stdout);
        MUST(dup2(saved, 1) >= 0);
        close(saved);
        rewind(file);
        text[fread(text, 1, sizeof(text) - 1, file)] = 0;
        fclose(file);
        if (strcmp(text, "kernel 1 speaks\nthe program speaks\nkernel 2 speaks\n") != 0) {
                fprintf(stderr, "stdout had \"%s\"\n", text);
                exit(1);
        }
}

int main()
{
        kernels_and_functions_take_turns();
        kernels_speak();
        printf("runtime_host: right\n");
        return 0;
}
