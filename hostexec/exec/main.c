/* ivgpu-exec: one guest process's executor.
 *
 * Started by ivgpud with one socket, over which its channel comes: at once, or when a program asks for one. Runs until
 * that socket ends, SIGTERM, or a fault of the channel. The main thread starts everything, then only waits; calls run
 * on the consumer, the lanes and the reaper.
 *
 *   driver (warm: a context -> WAITING) -> channel -> region, ring -> READY -> wait -> ring closed -> threads stopped
 *   -> contexts closed -> _exit
 *
 * The end must not depend on the driver: from the moment it begins a timer runs whose handler calls _exit, and so gives
 * the GPU's memory back through the kernel. Nothing is left to atexit handlers, which belong to the driver too. */
#include "adopt.h"
#include "options.h"
#include "rcu.h"
#include "vram.h"
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- what the process gives up at once ---- */

static void harden_process(pid_t parent)
{
        const struct rlimit none = {0, 0};

        /* Guest bytes and driver state belong in no core file; nothing here ever needs more rights. */
        setrlimit(RLIMIT_CORE, &none);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        if (getppid() != parent) /* the mediator died before the line above */
                _exit(IVG_EXEC_EXIT_TOLD);
        signal(SIGPIPE, SIG_IGN);
}

static int open_signals(void)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        /* Before any thread starts, so that all of them, the driver's too, leave these to the descriptor. */
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void cut_off(int number)
{
        (void)number;
        _exit(IVG_EXEC_EXIT_STUCK);
}

static void start_exit_timer(uint32_t ms)
{
        const struct sigaction action = {.sa_handler = cut_off};
        const struct itimerval timer = {.it_value = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}};

        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &timer, NULL);
}

/* ---- what the mediator is told ---- */

static void tell(int control_fd, const struct ivg_exec_message *message)
{
        /* The mediator reads at once or is gone; then the next poll of the descriptor says so. */
        if (send(control_fd, message, sizeof(*message), MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(*message))
                ivg_log(IVG_LOG_WARNING, "the mediator was not told (message %u): %s", message->type, strerror(errno));
}

__attribute__((noreturn)) static void fail_in_driver(int control_fd, enum ivg_error_code code, CUresult result,
                                                     const char *text)
{
        struct ivg_exec_message message = {.magic = IVG_EXEC_CONTROL_MAGIC,
                                           .type = IVG_EXEC_FAILED,
                                           .code = (uint32_t)code,
                                           .fault = (uint32_t)result};

        snprintf(message.text, sizeof(message.text), "%s", text);
        ivg_log(IVG_LOG_ERROR, "%s", text);
        tell(control_fd, &message);
        _exit(IVG_EXEC_EXIT_START);
}

__attribute__((noreturn)) static void fail(int control_fd, enum ivg_error_code code, const char *text)
{
        fail_in_driver(control_fd, code, CUDA_SUCCESS, text);
}

static void tell_start(int control_fd, enum ivg_exec_message_type type, int driver_version, int device_count)
{
        const struct ivg_exec_message message = {.magic = IVG_EXEC_CONTROL_MAGIC,
                                                 .type = type,
                                                 .driver_version = driver_version,
                                                 .device_count = device_count};

        tell(control_fd, &message);
}

static void tell_fault(int control_fd, enum ivg_ring_fault fault)
{
        struct ivg_exec_message message = {.magic = IVG_EXEC_CONTROL_MAGIC,
                                           .type = IVG_EXEC_FAULT,
                                           .code = IVG_ERROR_INVALID_REQUEST,
                                           .fault = (uint32_t)fault};

        snprintf(message.text, sizeof(message.text), "the guest broke a rule: %s", ivg_ring_fault_name(fault));
        tell(control_fd, &message);
}

/* ---- waiting ---- */

/* False: it was no ping, but the mediator's end; it sends nothing else. */
static bool answer_ping(int control_fd)
{
        const struct ivg_exec_message pong = {.magic = IVG_EXEC_CONTROL_MAGIC, .type = IVG_EXEC_PONG};
        struct ivg_exec_message ping;
        const ssize_t bytes = recv(control_fd, &ping, sizeof(ping), MSG_DONTWAIT);

        if (bytes != (ssize_t)sizeof(ping) || ping.magic != IVG_EXEC_CONTROL_MAGIC || ping.type != IVG_EXEC_PING)
                return false;
        tell(control_fd, &pong);
        return true;
}

/* Runs until told to end. The ring's end that the guest is to see goes to *state. */
static enum ivg_exec_exit wait_for_end(struct ivg_exec *exec, const struct ivg_exec_options *options, int signal_fd,
                                       enum ivg_ring_state *state)
{
        struct pollfd fds[3] = {{.fd = options->control_fd, .events = POLLIN},
                                {.fd = signal_fd, .events = POLLIN},
                                {.fd = exec->event_fd, .events = POLLIN}};
        int timeout_ms = options->warm ? options->warm_unused_ms : -1;

        for (;;) {
                const int ready = poll(fds, 3, timeout_ms);

                if (ready < 0 && errno == EINTR)
                        continue;
                if (ready == 0 && fds[2].fd >= 0) {
                        ivg_context_warm_end(exec); /* a program that only asks for devices holds no memory of one */
                        timeout_ms = -1;
                        continue;
                }
                if (ready <= 0) { /* after a fault, and nobody ended us */
                        *state = IVG_RING_FAULT;
                        return IVG_EXEC_EXIT_FAULT;
                }
                /* Looked at first, since the mediator's death also raises our signal. */
                if (fds[0].revents && !answer_ping(options->control_fd)) {
                        *state = IVG_RING_PEER_GONE;
                        return IVG_EXEC_EXIT_TOLD;
                }
                if (fds[1].revents) {
                        *state = IVG_RING_CLOSED;
                        return IVG_EXEC_EXIT_TOLD;
                }
                if (!fds[2].revents)
                        continue;
                fds[2].fd = -1; /* once */
                tell_fault(options->control_fd, (enum ivg_ring_fault)ivg_load_acquire_u32(&exec->fault));
                timeout_ms = (int)IVG_EXEC_FAULT_LINGER_MS;
        }
}

/* ---- the driver ---- */

static bool driver_complete(const struct ivg_driver *driver, const char **missing)
{
        const struct {
                bool there;
                const char *name;
        } needed[] = {
#define NEEDED(symbol) {driver->symbol != NULL, #symbol}
                NEEDED(cuInit),
                NEEDED(cuDriverGetVersion),
                NEEDED(cuDeviceGetCount),
                NEEDED(cuCtxSetCurrent),
                NEEDED(cuStreamCreate),
                NEEDED(cuStreamDestroy_v2),
                NEEDED(cuMemHostRegister_v2),
                NEEDED(cuMemHostUnregister),
                NEEDED(cuMemHostGetDevicePointer_v2),
                NEEDED(cuMemGetAddressRange_v2),
                NEEDED(cuMemcpyHtoDAsync_v2),
                NEEDED(cuMemcpyDtoHAsync_v2),
                NEEDED(cuStreamWriteValue64_v2),
                NEEDED(cuLaunchKernel),
                NEEDED(cuDevicePrimaryCtxRetain),
                NEEDED(cuDevicePrimaryCtxRelease_v2),
                NEEDED(cuCtxDestroy_v2),
                NEEDED(cuDeviceGet),
#undef NEEDED
        };

        for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
                if (!needed[i].there) {
                        *missing = needed[i].name;
                        return false;
                }
        return true;
}

struct driver_start {
        struct ivg_driver driver;
        CUresult result; /* that ended it */
        int version, device_count;
        int warm_device; /* whose primary context is retained; -1: none */
};

static bool start_driver(struct driver_start *start, const char *path, char text[IVG_EXEC_TEXT_BYTES])
{
        const char *missing = NULL;
        CUresult result;

        start->warm_device = -1;
        if (ivg_driver_open(&start->driver, path)) {
                const char *reason = dlerror();

                snprintf(text, IVG_EXEC_TEXT_BYTES, "driver %s: %s", path, reason ? reason : "cannot be loaded");
                return false;
        }
        if (!driver_complete(&start->driver, &missing)) {
                snprintf(text, IVG_EXEC_TEXT_BYTES, "driver %s lacks %s", path, missing);
                return false;
        }
        result = start->driver.cuInit(0);
        if (!result)
                result = start->driver.cuDriverGetVersion(&start->version);
        if (!result)
                result = start->driver.cuDeviceGetCount(&start->device_count);
        start->result = result;
        if (result) {
                snprintf(text, IVG_EXEC_TEXT_BYTES, "driver %s: cuInit: CUDA error %d", path, (int)result);
                return false;
        }
        return true;
}

/* A driver that finds no MPS daemon goes on without one, on GPUs of its own choice. One that does not know the question
 * is believed. */
static bool is_served_by_mps(const struct driver_start *start, char text[IVG_EXEC_TEXT_BYTES])
{
        for (CUdevice device = 0; device < start->device_count; device++) {
                int served = 1;

                if (start->driver.cuDeviceGetAttribute &&
                    start->driver.cuDeviceGetAttribute(&served, CU_DEVICE_ATTRIBUTE_MPS_ENABLED, device) ==
                            CUDA_SUCCESS &&
                    served == 0) {
                        snprintf(text, IVG_EXEC_TEXT_BYTES, "no MPS server serves device %d, as the pool's mps demands",
                                 device);
                        return false;
                }
        }
        return true;
}

/* In an exclusive mode the context would keep every other process from the device. */
static bool device_is_shared(const struct ivg_driver *driver, CUdevice device)
{
        int mode = CU_COMPUTEMODE_DEFAULT;

        return !driver->cuDeviceGetAttribute ||
               driver->cuDeviceGetAttribute(&mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, device) != CUDA_SUCCESS ||
               mode == CU_COMPUTEMODE_DEFAULT;
}

/* The primary context of the first device: that of nearly every program. Without it the driver's start is saved all the
 * same. */
static void warm_up(struct driver_start *start)
{
        CUcontext context = NULL;
        CUdevice device = -1;
        CUresult result = start->driver.cuDeviceGet(&device, 0);

        if (result == CUDA_SUCCESS && !device_is_shared(&start->driver, device)) {
                ivg_log(IVG_LOG_WARNING, "device 0 is for one process at a time: no context waits");
                return;
        }
        if (result == CUDA_SUCCESS)
                result = start->driver.cuDevicePrimaryCtxRetain(&context, device);
        if (result == CUDA_SUCCESS)
                start->warm_device = device;
        else
                ivg_log(IVG_LOG_WARNING, "no context waits: CUDA error %d", (int)result);
        start->result = result;
}

/* ---- the way through ---- */

/* A channel, or the end. */
static void adopt(const struct ivg_exec_options *options, int signal_fd, struct ivg_exec_config *config)
{
        struct ivg_error error = {.text = ""};
        uint32_t vm_id = 0;
        const int rc = ivg_exec_adopt(options->control_fd, signal_fd, config, &vm_id, &error);

        if (rc == -EPROTO)
                fail(options->control_fd, IVG_ERROR_INVALID_REQUEST, error.text);
        if (rc < 0) /* nothing is anybody's yet: the kernel takes the context back */
                _exit(IVG_EXEC_EXIT_TOLD);
        ivg_log_setup_channel(vm_id, config->channel);
}

static void end(struct ivg_exec *exec, enum ivg_ring_state state, enum ivg_exec_exit exit_code)
{
        start_exit_timer(2 * IVG_EXEC_CLOSE_MS);
        /* A thread that is still inside the driver holds what closing would need: leave that to the kernel. */
        if (ivg_exec_stop(exec, state, IVG_EXEC_CLOSE_MS) == 0)
                ivg_exec_close_contexts(exec);
        else
                exit_code = IVG_EXEC_EXIT_STUCK;
        ivg_log(IVG_LOG_INFO, "end: %llu records in %llu batches, %llu sleeps",
                (unsigned long long)ivg_load_relaxed_u64(&exec->host_channel->records_consumed),
                (unsigned long long)ivg_load_relaxed_u64(&exec->host_channel->batches),
                (unsigned long long)ivg_load_relaxed_u64(&exec->host_channel->sleeps));
        ivg_output_close();
        _exit((int)exit_code);
}

int main(int argc, char **argv)
{
        const pid_t parent = getppid();
        struct ivg_exec_options options;
        struct ivg_exec *exec = NULL;
        struct ivg_exec_config config;
        struct ivg_error error = {.text = ""};
        struct driver_start start = {.version = 0};
        enum ivg_ring_state state = IVG_RING_CLOSED;
        enum ivg_exec_exit exit_code;
        char text[IVG_EXEC_TEXT_BYTES];
        int signal_fd;

        if (!ivg_exec_options_parse(&options, argc, argv))
                return IVG_EXEC_EXIT_USAGE;
        harden_process(parent);
        ivg_log_setup(options.log_level);
        signal_fd = open_signals();
        if (signal_fd < 0)
                fail(options.control_fd, IVG_ERROR_INVALID_REQUEST, "no signal descriptor");
        ivg_exec_thread_begins("ivgpu-exec");

        if (ivg_output_open()) /* the driver's first words are the log's, what kernels print is the guest's */
                ivg_log(IVG_LOG_WARNING, "what kernels print cannot be caught: %s", strerror(errno));
        if (!start_driver(&start, options.driver, text) || (options.mps && !is_served_by_mps(&start, text)))
                fail_in_driver(options.control_fd, IVG_ERROR_CUDA_ERROR, start.result, text);
        if (options.warm) {
                warm_up(&start);
                if (options.mps && start.result == CUDA_ERROR_MPS_SERVER_NOT_READY)
                        fail_in_driver(options.control_fd, IVG_ERROR_CUDA_ERROR, start.result,
                                       "the MPS server takes no new programs");
                tell_start(options.control_fd, IVG_EXEC_WAITING, start.version, start.device_count);
        }
        adopt(&options, signal_fd, &config);
        if (ivg_exec_create(&config, &exec, &error))
                fail(options.control_fd, IVG_ERROR_INVALID_REQUEST, error.text);
        exec->driver = start.driver;
        exec->warm_device = start.warm_device;
        if (ivg_vram_open(exec, config.vram_fd, config.vram_place))
                fail(options.control_fd, IVG_ERROR_INVALID_REQUEST, "the table of device memory is none of ours");
        if (ivg_exec_start(exec, &error))
                fail(options.control_fd, IVG_ERROR_INVALID_REQUEST, error.text);
        ivg_log(IVG_LOG_INFO, "ready: driver %s, version %d, %d device(s)", options.driver, start.version,
                start.device_count);
        tell_start(options.control_fd, IVG_EXEC_READY, start.version, start.device_count);

        exit_code = wait_for_end(exec, &options, signal_fd, &state);
        end(exec, state, exit_code);
}
