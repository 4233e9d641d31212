/* Opening, closing and asking after a link; everything that is the same for all transports. */
#include "ivgpu/broker.h"
#include "link_internal.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct ivg_link_transport *const transports[] = {
        &ivg_link_transport_driver,
        &ivg_link_transport_local,
        &ivg_link_transport_broker,
        &ivg_link_transport_sysfs,
};
#define TRANSPORTS_COUNT (sizeof(transports) / sizeof(transports[0]))

/* ---- open ---- */

static struct ivg_link *link_new(const struct ivg_link_transport *transport, const char *path)
{
        struct ivg_link *link = aligned_alloc(_Alignof(struct ivg_link), sizeof(*link));

        if (link == NULL)
                return NULL;
        memset(link, 0, sizeof(*link));
        link->transport = transport;
        link->channel = IVG_CHANNEL_NONE;
        link->wait_slice_ns = IVG_LINK_WAIT_SLICE_NS;
        link->region_fd = link->socket_fd = link->control_fd = link->doorbell_fd = link->interrupt_fd = -1;
        snprintf(link->name, sizeof(link->name), "%s:%s", transport->scheme, path == NULL ? "" : path);
        return link;
}

static void link_end(struct ivg_link *link, bool in_order)
{
        if (link->transport->close != NULL)
                link->transport->close(link, in_order);
        else if (in_order)
                ivg_link_channel_close(link);
        if (link->arena != NULL)
                munmap(link->arena, link->region.arena_bytes);
        ivg_region_unmap(&link->region);
        ivg_close_fd(&link->interrupt_fd);
        ivg_close_fd(&link->doorbell_fd);
        ivg_close_fd(&link->control_fd);
        ivg_close_fd(&link->socket_fd);
        ivg_close_fd(&link->region_fd);
        free(link);
}

static int link_try(const struct ivg_link_transport *transport, const char *path, struct ivg_link_request *request,
                    struct ivg_link **link)
{
        struct ivg_link *candidate = link_new(transport, path);
        int rc;

        if (candidate == NULL) {
                ivg_error_set(request->error, "%s: no memory for a link", transport->scheme);
                return -ENOMEM;
        }
        request->code = IVG_ERROR_MEDIATOR_UNAVAILABLE;
        rc = transport->open(candidate, path, request);
        if (rc < 0) {
                ivg_error_prefix(request->error, "%s", candidate->name);
                link_end(candidate, true);
                return rc;
        }
        *link = candidate;
        return 0;
}

static int open_forced(const char *forced, struct ivg_link_request *request, struct ivg_link **link)
{
        for (size_t i = 0; i < TRANSPORTS_COUNT; i++) {
                const size_t bytes = strlen(transports[i]->scheme);

                if (strncmp(forced, transports[i]->scheme, bytes) == 0 && forced[bytes] == ':')
                        return link_try(transports[i], forced + bytes + 1, request, link);
        }
        request->code = IVG_ERROR_UNSUPPORTED_OP;
        ivg_error_set(request->error,
                      "IVGPU_CHANNEL=%s: this build knows driver:NODE, local:PATH, broker:PATH and sysfs:DEVICE",
                      forced);
        return -EPROTONOSUPPORT;
}

/* Whether a search may go on after this: the place does not exist or is not ours to use. */
static bool error_is_absence(int rc)
{
        return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EACCES || rc == -EPERM || rc == -ENOTDIR;
}

static int open_searching(const struct ivg_link_places *places, struct ivg_link_request *request,
                          struct ivg_link **link)
{
        const struct {
                const struct ivg_link_transport *transport;
                const char *path;
        } tries[] = {
                {&ivg_link_transport_driver, NULL},
                {&ivg_link_transport_local, places->socket != NULL ? places->socket : IVG_LINK_SOCKET_DEFAULT},
                {&ivg_link_transport_broker, places->broker},
                {&ivg_link_transport_sysfs, NULL},
        };
        struct ivg_error *error = request->error;
        struct ivg_error words[TRANSPORTS_COUNT] = {{""}};
        const struct ivg_error *forbidden = NULL;
        int rc = -ENOENT;

        _Static_assert(sizeof(tries) / sizeof(tries[0]) == TRANSPORTS_COUNT, "every transport has its turn");
        for (size_t i = 0; i < TRANSPORTS_COUNT; i++) {
                request->error = &words[i];
                rc = link_try(tries[i].transport, tries[i].path, request, link);
                request->error = error;
                if (rc == 0)
                        return 0;
                if (!error_is_absence(rc)) {
                        /* A device that was there but forbidden is the likelier reason than what was found instead. */
                        ivg_error_set(error, "%s%s%.120s", words[i].text, forbidden ? "; " : "",
                                      forbidden ? forbidden->text : "");
                        return rc;
                }
                if (forbidden == NULL && rc == -EACCES)
                        forbidden = &words[i];
        }
        ivg_error_set(error, "%.75s; %.75s; %.75s; %.75s", words[0].text, words[1].text, words[2].text, words[3].text);
        return rc;
}

int ivg_link_open_at(const struct ivg_link_places *places, uint64_t call_table_fingerprint, struct ivg_link **link,
                     enum ivg_error_code *code, struct ivg_error *error)
{
        struct ivg_link_request request = {
                .call_table_fingerprint = call_table_fingerprint,
                .deadline_ns = ivg_now_ns() + places->open_ms * IVG_NS_PER_MS,
                .device_prefix = places->device_prefix,
                .sysfs_root = places->sysfs_root,
                .code = IVG_ERROR_MEDIATOR_UNAVAILABLE,
                .error = error,
        };
        const int rc = places->forced != NULL ? open_forced(places->forced, &request, link)
                                              : open_searching(places, &request, link);

        *code = rc < 0 ? request.code : IVG_ERROR_NONE;
        return rc;
}

int ivg_link_open(uint64_t call_table_fingerprint, struct ivg_link **link, enum ivg_error_code *code,
                  struct ivg_error *error)
{
        /* The secure form: a program with raised rights must not be led to somebody else's mediator. */
        const struct ivg_link_places places = {
                .forced = secure_getenv("IVGPU_CHANNEL"),
                .socket = secure_getenv("IVGPU_SOCKET"),
                .broker = IVG_BROKER_SOCKET_DEFAULT,
                .device_prefix = IVG_LINK_DEVICE_PREFIX,
                .sysfs_root = IVG_LINK_SYSFS_ROOT,
                .open_ms = IVG_LINK_OPEN_MS,
        };

        return ivg_link_open_at(&places, call_table_fingerprint, link, code, error);
}

/* ---- life ---- */

static int ring_errno(const struct ivg_link *link)
{
        /* S2, pairs with S1 (ring_attach.c): the fault words are complete. */
        const uint64_t status = ivg_load_acquire_u64(&ivg_region_ring_host(&link->region, link->channel)->status);

        if (status >> 32 != link->generation)
                return -EOWNERDEAD;
        switch ((uint32_t)status) {
        case IVG_RING_OPEN:
                return 0;
        case IVG_RING_CLOSED:
                return -ESHUTDOWN;
        case IVG_RING_FAULT:
                return -EPROTO;
        default: /* PEER_GONE, or a value that no living consumer stores */
                return -EOWNERDEAD;
        }
}

int ivg_link_alive(struct ivg_link *link)
{
        const struct ivg_host_channel *host = &ivg_region_host_pages(&link->region)->channels[link->channel];
        const int rc = ring_errno(link);

        if (rc < 0)
                return rc;
        /* H2, pairs with the mediator's release of the state word (H1 in link_channel.c's terms). */
        if (ivg_load_acquire_u64(&host->state) != ivg_channel_word(link->generation, IVG_HOST_CHANNEL_READY))
                return -EOWNERDEAD;
        return link->transport->alive(link);
}

void ivg_link_doorbell(struct ivg_link *link)
{
        link->transport->ring_channel(link);
}

/* ---- close ---- */

void ivg_link_close(struct ivg_link *link)
{
        if (link != NULL)
                link_end(link, true);
}

void ivg_link_shutdown(struct ivg_link *link)
{
        ivg_link_channel_close(link);
}

void ivg_link_abandon(struct ivg_link *link)
{
        if (link != NULL)
                link_end(link, false);
}

int ivg_link_map_arena(struct ivg_link *link, void *address)
{
        int rc;

        if (link->arena != NULL)
                return -EALREADY;
        rc = ivg_region_map_arena(&link->region, link->region_fd, address);
        if (rc == 0)
                link->arena = address;
        return rc;
}

void ivg_link_unmap_arena(struct ivg_link *link)
{
        if (link->arena != NULL)
                munmap(link->arena, link->region.arena_bytes);
        link->arena = NULL;
}

const struct ivg_region *ivg_link_region(const struct ivg_link *link)
{
        return &link->region;
}

uint32_t ivg_link_channel(const struct ivg_link *link)
{
        return link->channel;
}

uint32_t ivg_link_generation(const struct ivg_link *link)
{
        return link->generation;
}

const char *ivg_link_name(const struct ivg_link *link)
{
        return link->name;
}

const char *ivg_link_cost(const struct ivg_link *link)
{
        return link->transport->cost;
}
