/* Every offset and number that host, shim and guest driver must agree on; compiled once with each side's header. The
 * includer defines LIST (the array's name) and, before, includes its own layout header. */
#include <stddef.h>

struct kmod_layout_entry {
        const char *name;
        unsigned long long value;
};

#define VALUE(expression)                                     \
        {                                                     \
#expression, (unsigned long long)(expression) \
        }
#define PLACE(type, member)                                      \
        {                                                        \
#type "." #member, offsetof(struct type, member) \
        }
#define SIZE(type)                                   \
        {                                            \
                "sizeof " #type, sizeof(struct type) \
        }

extern const struct kmod_layout_entry LIST[];
extern const size_t LIST_COUNT;
const struct kmod_layout_entry LIST[] = {
        VALUE(IVG_REGION_MAGIC),
        VALUE(IVG_LAYOUT_VERSION),
        VALUE(IVG_PAGE_BYTES),
        VALUE(IVG_EXTENT_BYTES),
        VALUE(IVG_CHANNELS_MAX),
        VALUE(IVG_VECTORS_MAX),
        VALUE(IVG_REGION_BYTES_MIN),
        VALUE(IVG_REGION_BYTES_MAX),
        VALUE(IVG_VM_NAME_BYTES),
        VALUE(IVG_RING_SLOTS),
        VALUE(IVG_RING_PRODUCERS),
        VALUE(IVG_ANSWER_AREA_BYTES),
        VALUE(IVG_COMPLETION_WORDS),
        VALUE(IVG_CHANNEL_RING_GUEST_OFFSET),
        VALUE(IVG_CHANNEL_GUEST_BYTES),
        VALUE(IVG_CHANNEL_RING_HOST_OFFSET),
        VALUE(IVG_CHANNEL_HOST_BYTES),
        VALUE(IVG_CHANNEL_STRIDE),
        VALUE(IVG_HEARTBEAT_MS),
        VALUE(IVG_GUEST_FREE),
        VALUE(IVG_GUEST_OPEN),
        VALUE(IVG_GUEST_CLOSED),
        VALUE(IVG_HOST_FREE),
        VALUE(IVG_HOST_STARTING),
        VALUE(IVG_HOST_READY),
        VALUE(IVG_HOST_FAILED),
        VALUE(IVG_HOST_DEAD),
        SIZE(ivg_region_page),
        PLACE(ivg_region_page, magic),
        PLACE(ivg_region_page, layout_version),
        PLACE(ivg_region_page, page_bytes_used),
        PLACE(ivg_region_page, region_bytes),
        PLACE(ivg_region_page, call_table_fingerprint),
        PLACE(ivg_region_page, host_instance),
        PLACE(ivg_region_page, doorbell_peer),
        PLACE(ivg_region_page, vector_count),
        PLACE(ivg_region_page, channel_count),
        PLACE(ivg_region_page, vm_id),
        PLACE(ivg_region_page, guest_pages_offset),
        PLACE(ivg_region_page, guest_pages_bytes),
        PLACE(ivg_region_page, host_pages_offset),
        PLACE(ivg_region_page, host_pages_bytes),
        PLACE(ivg_region_page, channels_offset),
        PLACE(ivg_region_page, channel_stride),
        PLACE(ivg_region_page, arena_offset),
        PLACE(ivg_region_page, arena_bytes),
        PLACE(ivg_region_page, ring_slots),
        PLACE(ivg_region_page, ring_producers),
        PLACE(ivg_region_page, answer_area_bytes),
        PLACE(ivg_region_page, completion_words),
        PLACE(ivg_region_page, vm_name),
        SIZE(ivg_guest_channel),
        PLACE(ivg_guest_channel, state),
        PLACE(ivg_guest_channel, pid),
        PLACE(ivg_guest_channel, program),
        PLACE(ivg_guest_pages, boot_epoch),
        PLACE(ivg_guest_pages, channels),
        PLACE(ivg_guest_pages, extent_owner),
        SIZE(ivg_host_channel),
        PLACE(ivg_host_channel, state),
        PLACE(ivg_host_channel, reason),
        PLACE(ivg_host_channel, executor_pid),
        SIZE(ivg_host_pages),
        PLACE(ivg_host_pages, heartbeat),
        PLACE(ivg_host_pages, epoch_seen),
        PLACE(ivg_host_pages, silence_ms),
        PLACE(ivg_host_pages, channels),
        PLACE(ivg_host_pages, device_bytes),
};
const size_t LIST_COUNT = sizeof(LIST) / sizeof(LIST[0]);
