/* The region that a VM's QEMU was given, through a descriptor of it that the mediator hands out for reading. */
#include "control_client.h"
#include "doctor.h"
#include "ivgpu_calls.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct region_search {
        uint32_t vm_id;
        int fd; /* -1: none */
        int rc; /* of looking */
        uint32_t layout_version;
        uint64_t fingerprint;
        struct ivg_region region;
        struct ivg_error error;
};

/* True when it is this VM's, and not that of a local program of it. */
static bool region_take(struct region_search *search, int fd)
{
        union {
                struct ivg_region_page page;
                uint8_t bytes[IVG_PAGE_BYTES];
        } copy;
        struct stat status;

        if (fstat(fd, &status) < 0 || pread(fd, &copy, sizeof(copy), 0) != (ssize_t)sizeof(copy) ||
            copy.page.vm_id != search->vm_id || copy.page.vector_count == 0)
                return false;
        search->fd = fd;
        search->layout_version = copy.page.layout_version;
        search->fingerprint = copy.page.call_table_fingerprint;
        search->rc = ivg_region_check(&copy.page, (uint64_t)status.st_size, IVG_CALL_TABLE_FINGERPRINT, &search->region,
                                      &search->error);
        return true;
}

static void region_find(struct ivg_doctor *doctor, struct region_search *search)
{
        char words[IVG_CONTROL_WORDS_BYTES], number[16];
        struct ivg_control_reply reply = {0};
        struct json_object *request;
        const char *refusal;
        int connection = ivg_control_connect(ivg_control_place(doctor), doctor->answer_s, words);

        search->rc = connection;
        if (connection < 0)
                return;
        snprintf(number, sizeof(number), "%u", search->vm_id);
        request = ivg_control_request("regions", number);
        search->rc = ivg_control_exchange(connection, request, &reply, words);
        json_object_put(request);
        if (search->rc == 0) {
                refusal = ivg_control_refusal(reply.answer);
                search->rc = refusal ? -EACCES : -ENOENT;
                for (uint32_t i = 0; i < reply.fd_count && search->fd < 0; i++)
                        if (region_take(search, reply.fds[i]))
                                reply.fds[i] = -1;
                ivg_control_reply_free(&reply);
        }
        close(connection);
}

static uint64_t region_word(const struct region_search *search, uint64_t offset)
{
        uint64_t word = 0;

        return pread(search->fd, &word, sizeof(word), (off_t)offset) == (ssize_t)sizeof(word) ? word : 0;
}

/* Waits for one, as long as the mediator says that its silence may be taken for none. */
static bool beat_comes(const struct region_search *search)
{
        const uint64_t pages = search->region.host_pages_offset, begin = region_word(search, pages);
        const uint64_t told_ms = region_word(search, pages + offsetof(struct ivg_host_pages, silence_ms));
        const uint64_t most_ms = told_ms > IVG_HEARTBEAT_LOST_MS ? IVG_HEARTBEAT_SLOW_LOST_MS : IVG_HEARTBEAT_LOST_MS;
        const struct timespec pause = {.tv_nsec = IVG_HEARTBEAT_MS * 1000000L};

        for (uint64_t ms = 0; ms < most_ms; ms += IVG_HEARTBEAT_MS) {
                nanosleep(&pause, NULL);
                if (region_word(search, pages) != begin)
                        return true;
        }
        return false;
}

static void region_judge(struct ivg_doctor *doctor, const struct ivg_vm_config *vm, const struct region_search *search,
                         const char *name)
{
        if (search->layout_version != IVG_LAYOUT_VERSION || search->fingerprint != IVG_CALL_TABLE_FINGERPRINT) {
                ivg_seen(doctor, "layout %u, calls %016llx; this installation's are %u, %016llx",
                         search->layout_version, (unsigned long long)search->fingerprint, IVG_LAYOUT_VERSION,
                         (unsigned long long)IVG_CALL_TABLE_FINGERPRINT);
                ivg_remedy(doctor,
                           "ivgpud was started before an update: systemctl restart ivgpud, start the VM again, and "
                           "install the same version in the guest");
                ivg_conclude(doctor, IVG_BAD, "region-of-another-build", name);
                return;
        }
        if (search->rc < 0) {
                ivg_seen(doctor, "%s", search->error.text);
                ivg_remedy(doctor, "what the mediator wrote once was overwritten: start the VM again, and report this");
                ivg_conclude(doctor, IVG_BAD, "region-broken", name);
                return;
        }
        if (search->region.region_bytes != (uint64_t)vm->region_mib << 20 ||
            search->region.channel_count != vm->channels || search->region.vector_count != vm->vectors) {
                ivg_seen(doctor, "%llu MiB, %u channels, %u vectors; the configuration says %u, %u, %u",
                         (unsigned long long)search->region.region_bytes >> 20, search->region.channel_count,
                         search->region.vector_count, vm->region_mib, vm->channels, vm->vectors);
                ivg_remedy(doctor, "those hold from the next start of the VM's QEMU: start it again");
                ivg_conclude(doctor, IVG_BAD, "region-of-former-configuration", name);
                return;
        }
        if (!beat_comes(search)) {
                ivg_seen(doctor, "the mediator's heartbeat stands still at %llu",
                         (unsigned long long)region_word(search, search->region.host_pages_offset));
                ivg_remedy(doctor, "see \"mediator\": it hangs or is stopped; guests give it up after %u ms",
                           IVG_HEARTBEAT_LOST_MS);
                ivg_conclude(doctor, IVG_BAD, "region-without-heartbeat", name);
                return;
        }
        ivg_seen(doctor, "%llu MiB, %u channels, layout %u, calls %016llx; %s",
                 (unsigned long long)search->region.region_bytes >> 20, search->region.channel_count,
                 search->layout_version, (unsigned long long)search->fingerprint,
                 region_word(search, search->region.guest_pages_offset) != 0
                         ? "a guest uses it"
                         : "no guest has used it since QEMU's start (run ivgpu-doctor there)");
        ivg_conclude(doctor, IVG_OK, NULL, name);
}

void ivg_check_region(struct ivg_doctor *doctor)
{
        const struct ivg_vm_config *vm = NULL;
        unsigned int looked = 0;
        char name[64];

        while (ivg_learn_list(doctor) && (vm = ivg_next_vm(doctor, vm, name)) != NULL) {
                struct region_search search = {.vm_id = vm->vm_id, .fd = -1};

                if (vm->socket[0] == '\0')
                        continue;
                region_find(doctor, &search);
                looked += search.fd >= 0 || search.rc == -EACCES;
                if (search.fd >= 0) {
                        region_judge(doctor, vm, &search, name);
                        close(search.fd);
                } else if (search.rc == -EACCES) {
                        ivg_seen(doctor, "ivgpud lets this user not look into regions");
                        ivg_remedy(doctor, "run ivgpu-doctor as root, or as one who may change things (\"control\")");
                        ivg_conclude(doctor, IVG_UNKNOWN, NULL, name);
                }
        }
        if (looked > 0)
                return;
        ivg_seen(doctor, ivg_learn_list(doctor) ? "no QEMU has a region" : "the mediator cannot be asked");
        ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
}
