/* What our libnvidia-ml.so.1 asks (management.h). Nothing here needs cuInit. */
#include "management.h"
#include "guest.h"
#include "guest_send.h"
#include <unistd.h>

static CUresult nothing_to_ask(void *argument)
{
        (void)argument;
        return CUDA_SUCCESS;
}

static CUresult connect_process(int *driver_version, int *device_count)
{
        const CUresult result = ivg_process_ask(nothing_to_ask, NULL);

        if (result == CUDA_SUCCESS) {
                *driver_version = ivg_process.driver_version;
                *device_count = ivg_process.device_count;
        }
        return result;
}

struct question {
        int device;
        void *out;
};

static CUresult ask_device(void *argument)
{
        const struct question *question = argument;

        return ivg_send_ivgDeviceSnapshot(question->device, question->out);
}

static CUresult device(int device_, struct ivg_wire_device *out)
{
        return ivg_process_ask(ask_device, &(struct question){device_, out});
}

static CUresult ask_status(void *argument)
{
        const struct question *question = argument;

        return ivg_send_ivgDeviceStatus(question->device, question->out);
}

static CUresult status(int device_, struct ivg_wire_device_status *out)
{
        return ivg_process_ask(ask_status, &(struct question){device_, out});
}

struct link_question {
        int device;
        unsigned int link;
        struct ivg_wire_device_link *out;
};

static CUresult ask_link(void *argument)
{
        const struct link_question *question = argument;

        return ivg_send_ivgDeviceLink(question->device, question->link, question->out);
}

static CUresult link_(int device_, unsigned int number, struct ivg_wire_device_link *out)
{
        return ivg_process_ask(ask_link, &(struct link_question){device_, number, out});
}

/* Figures of other processes come and go while they are read: each stands by itself, so relaxed loads do. */
static CUresult processes(int device_, struct ivg_management_process *out, uint32_t capacity, uint32_t *count,
                          uint64_t *total)
{
        const CUresult result = ivg_process_ask(nothing_to_ask, NULL);
        const struct ivg_region *region;
        const struct ivg_host_pages *host;
        const struct ivg_guest_pages *guest;

        *count = 0;
        *total = 0;
        if (result != CUDA_SUCCESS)
                return result;
        if (device_ < 0 || device_ >= (int)IVG_SHOWN_DEVICES_MAX)
                return CUDA_ERROR_NOT_SUPPORTED;
        region = ivg_link_region(ivg_process.link);
        host = ivg_region_host_pages(region);
        guest = ivg_region_guest_pages(region);
        for (uint32_t i = 0; i < region->channel_count && i < IVG_CHANNELS_MAX; i++) {
                const uint64_t bytes = ivg_load_relaxed_u64(&host->device_bytes[i][device_]);
                const uint32_t pid = i == ivg_link_channel(ivg_process.link)
                                             ? (uint32_t)getpid()
                                             : ivg_load_relaxed_u32(&guest->channels[i].pid);

                /* An executor that ended takes its memory along; its figure goes when the channel is freed. */
                if (bytes == 0 ||
                    ivg_channel_word_state(ivg_load_acquire_u64(&host->channels[i].state)) != IVG_HOST_CHANNEL_READY)
                        continue;
                if (*count < capacity)
                        out[*count] = (struct ivg_management_process){.pid = pid, .bytes = bytes};
                ++*count;
                *total += bytes;
        }
        return CUDA_SUCCESS;
}

struct peer_question {
        int device, other, attribute;
        int *value;
};

static CUresult ask_peer(void *argument)
{
        const struct peer_question *question = argument;

        return ivg_send_cuDeviceGetP2PAttribute(question->attribute, question->device, question->other,
                                                question->value);
}

static CUresult peer(int device_, int other, int attribute, int *value)
{
        return ivg_process_ask(ask_peer, &(struct peer_question){device_, other, attribute, value});
}

/* The sum of one counter over all lines. Relaxed: counters to look at. A line that changes hands keeps counting. */
static uint64_t sum_of_lines(_Atomic(uint64_t) *(*counter)(struct ivg_ring_producer *line))
{
        uint64_t sum = 0;

        if (ivg_process_check() != CUDA_SUCCESS)
                return 0;
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                sum += ivg_load_relaxed_u64(counter(&ivg_process.ring.guest->producers[i]));
        return sum;
}

static _Atomic(uint64_t) *calls_of(struct ivg_ring_producer *line)
{
        return &line->calls;
}

static _Atomic(uint64_t) *calls_sync_of(struct ivg_ring_producer *line)
{
        return &line->calls_sync;
}

static uint64_t records(void)
{
        return sum_of_lines(calls_of);
}

static uint64_t waits(void)
{
        return sum_of_lines(calls_sync_of);
}

const struct ivg_management ivg_management = {
        .bytes = sizeof(ivg_management),
        .connect = connect_process,
        .device = device,
        .status = status,
        .link = link_,
        .processes = processes,
        .peer = peer,
        .records = records,
        .waits = waits,
};
