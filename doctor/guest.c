/* The guest's side up to the node: PCI device, kernel driver, /dev/ivgpuN, channels. */
#include "doctor.h"
#include "ivgpu/broker.h"
#include "link_internal.h"
#include "sysfs_device.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define CLASS "/sys/class/ivgpu/ivgpu"

struct devices {
        int count;
        char names[IVG_SYSFS_DEVICES_MAX][IVG_SYSFS_NAME_BYTES];
};

static const struct devices *devices_learn(struct ivg_doctor *doctor)
{
        static struct devices devices = {.count = -1};
        char path[PATH_MAX];

        if (devices.count < 0) {
                ivg_system_path(doctor, path, "%s", IVG_LINK_SYSFS_ROOT);
                devices.count = ivg_sysfs_device_list(path, devices.names, IVG_SYSFS_DEVICES_MAX);
                if (devices.count < 0)
                        devices.count = 0;
        }
        return &devices;
}

/* ---- device ---- */

struct bars {
        unsigned long long start[3], bytes[3];
};

static void bars_read(struct ivg_doctor *doctor, const char *device, struct bars *bars)
{
        char path[PATH_MAX], text[2048], *rest = text, *line;

        *bars = (struct bars){{0}, {0}};
        ivg_system_path(doctor, path, "%s/%s/resource", IVG_LINK_SYSFS_ROOT, device);
        if (ivg_file_read(path, text, sizeof(text)) <= 0)
                return;
        for (int i = 0; i < 3 && (line = strsep(&rest, "\n")) != NULL; i++) {
                unsigned long long end = 0;

                if (sscanf(line, "%llx %llx", &bars->start[i], &end) == 2 && end > bars->start[i])
                        bars->bytes[i] = end - bars->start[i] + 1;
        }
}

static void device_judge(struct ivg_doctor *doctor, const char *device)
{
        struct bars bars;

        bars_read(doctor, device, &bars);
        if (bars.bytes[0] > 0 && bars.bytes[1] == 0 && bars.bytes[2] > 0) {
                ivg_seen(doctor, "BAR 2 of %llu MiB, no interrupts: this is ivshmem-plain", bars.bytes[2] >> 20);
                ivg_remedy(doctor,
                           "on the host give the VM ivshmem-doorbell: ivgpuctl attach VM --format qemu|libvirt");
                ivg_conclude(doctor, IVG_BAD, "device-without-doorbell", device);
        } else if (bars.bytes[2] == 0 || bars.start[2] == 0) {
                ivg_seen(doctor,
                         "BAR 2, the region, is not placed: the guest has no room for it (dmesg: \"BAR 2: no space\")");
                ivg_remedy(doctor,
                           "on the host: a pcie-root-port of its own with pref64-reserve of the region's size, as "
                           "\"ivgpuctl attach VM\" prints; and processors with enough address bits (-cpu host)");
                ivg_conclude(doctor, IVG_BAD, "device-not-placed", device);
        } else if (bars.bytes[2] < IVG_REGION_BYTES_MIN) {
                ivg_seen(doctor, "BAR 2 of %llu bytes: no region of ivgpu's, which have %llu MiB at least",
                         bars.bytes[2], IVG_REGION_BYTES_MIN >> 20);
                ivg_remedy(doctor,
                           "its chardev leads to another ivshmem server: path= is the VM's socket, ivgpuctl attach VM");
                ivg_conclude(doctor, IVG_BAD, "device-of-another-server", device);
        } else {
                ivg_seen(doctor, "1af4:1110, BAR 2 of %llu MiB at %llx%s", bars.bytes[2] >> 20, bars.start[2],
                         bars.start[2] < 1ull << 32 ? " (below 4 GiB: slower without the kernel driver)" : "");
                ivg_conclude(doctor, IVG_OK, NULL, device);
        }
}

void ivg_check_device(struct ivg_doctor *doctor)
{
        const struct devices *devices = devices_learn(doctor);

        for (int i = 0; i < devices->count; i++)
                device_judge(doctor, devices->names[i]);
        if (devices->count > 0)
                return;
        ivg_seen(doctor, "no PCI device 1af4:1110 (ivshmem)");
        ivg_remedy(doctor,
                   "on the host: ivgpuctl attach VM --format qemu|libvirt, add what it prints to the VM and start it "
                   "again; there \"ivgpu-doctor --vm VM\" says what QEMU has");
        ivg_conclude(doctor, IVG_BAD, "device-absent", "");
}

/* ---- kernel driver ---- */

static void kernel_log_look(const char *text, void *argument)
{
        char *last = argument;

        if (strstr(text, "ivgpu") && (strstr(text, "ivgpu 0") || strstr(text, "ivgpu:") || strstr(text, "module")))
                snprintf(last, 400, "%s", text + (text[0] == '<' && strchr(text, '>') ? strcspn(text, ">") + 1 : 0));
}

static void module_absent(struct ivg_doctor *doctor, const char *device)
{
        char path[PATH_MAX], release[80], lockdown[64];
        static const char *const places[] = {"updates/dkms", "updates", "extra", "kernel/drivers/extra"};
        static const char *const endings[] = {"", ".xz", ".zst", ".gz"};
        bool built = false;
        struct utsname kernel;

        uname(&kernel);
        ivg_system_path(doctor, path, "/proc/sys/kernel/osrelease");
        ivg_file_line(path, release, sizeof(release));
        if (release[0] == '\0')
                snprintf(release, sizeof(release), "%.*s", (int)sizeof(release) - 1, kernel.release);
        for (size_t i = 0; i < 16 && !built; i++) {
                ivg_system_path(doctor, path, "/lib/modules/%s/%s/ivgpu.ko%s", release, places[i / 4], endings[i % 4]);
                built = access(path, F_OK) == 0;
        }
        ivg_system_path(doctor, path, "/sys/kernel/security/lockdown");
        ivg_file_line(path, lockdown, sizeof(lockdown));
        if (built) {
                ivg_seen(doctor, "the kernel driver is built for %s and not loaded", release);
                ivg_remedy(doctor, "modprobe ivgpu%s",
                           strstr(lockdown, "[none]") || lockdown[0] == '\0'
                                   ? ""
                                   : "; this kernel takes signed modules only: mokutil --import /var/lib/dkms/mok.pub, "
                                     "reboot");
                ivg_conclude(doctor, IVG_BAD, "module-not-loaded", device);
                return;
        }
        ivg_seen(doctor, "no kernel driver ivgpu for %s; as root programs use sysfs, polling, others nothing", release);
        ivg_remedy(doctor,
                   "install ivgpu-guest-dkms and linux-headers-%s, then modprobe ivgpu (\"dkms status\" says whether "
                   "it was built); or build guest/kmod by hand",
                   release);
        ivg_conclude(doctor, IVG_BAD, "module-not-built", device);
}

static void broker_judge(struct ivg_doctor *doctor, const char *device, const char *driver)
{
        struct ivg_socket_view view;

        if (strcmp(driver, "vfio-pci") == 0 && ivg_socket_look(doctor, IVG_BROKER_SOCKET_DEFAULT, &view) == 0 &&
            view.listener != 0) {
                ivg_seen(doctor,
                         "vfio-pci has it, and ivgpu-broker serves it (slower copies, processes not kept apart)");
                ivg_conclude(doctor, IVG_OK, NULL, device);
                return;
        }
        ivg_seen(doctor, "the kernel driver %s has the device%s", driver,
                 strcmp(driver, "vfio-pci") == 0 ? ", and no ivgpu-broker listens on " IVG_BROKER_SOCKET_DEFAULT : "");
        ivg_remedy(doctor,
                   "give it to ivgpu: echo %s > /sys/bus/pci/devices/%s/driver/unbind; echo > "
                   "/sys/bus/pci/devices/%s/driver_override; modprobe ivgpu; echo %s > "
                   "/sys/bus/pci/drivers_probe%s",
                   device, device, device, device, strcmp(driver, "vfio-pci") == 0 ? "; or start ivgpu-broker" : "");
        ivg_conclude(doctor, IVG_BAD, "device-held-by-another-driver", device);
}

static void module_judge(struct ivg_doctor *doctor, const char *device)
{
        char path[PATH_MAX], driver[PATH_MAX], version[64], last[400] = "";
        ssize_t bytes;

        ivg_system_path(doctor, path, "%s/%s/driver", IVG_LINK_SYSFS_ROOT, device);
        bytes = readlink(path, driver, sizeof(driver) - 1);
        driver[bytes > 0 ? bytes : 0] = '\0';
        if (strrchr(driver, '/'))
                memmove(driver, strrchr(driver, '/') + 1, strlen(strrchr(driver, '/')));
        ivg_system_path(doctor, path, "/sys/module/ivgpu");
        if (driver[0] != '\0' && strcmp(driver, "ivgpu") != 0) {
                broker_judge(doctor, device, driver);
                return;
        }
        if (access(path, F_OK) < 0) {
                module_absent(doctor, device);
                return;
        }
        ivg_system_path(doctor, path, "/sys/module/ivgpu/version");
        ivg_file_line(path, version, sizeof(version));
        if (strcmp(version, IVG_VERSION) != 0) {
                ivg_seen(doctor, "the kernel driver is %s, this installation %s",
                         version[0] ? version : "of no version", IVG_VERSION);
                ivg_remedy(doctor,
                           "install one version of ivgpu-guest and ivgpu-guest-dkms, then: modprobe -r ivgpu; modprobe "
                           "ivgpu");
                ivg_conclude(doctor, IVG_BAD, "module-of-another-version", device);
                return;
        }
        if (driver[0] == '\0') {
                ivg_logs_read(doctor, kernel_log_look, last);
                ivg_seen(doctor, "the kernel driver is loaded and has not taken the device%s%.300s",
                         last[0] ? "; log: " : "", last);
                ivg_remedy(doctor,
                           "its line in dmesg says why: another server's region, or another layout (install one "
                           "version in guest and host); then: echo %s > /sys/bus/pci/drivers_probe",
                           device);
                ivg_conclude(doctor, IVG_BAD, "module-refuses-device", device);
                return;
        }
        ivg_seen(doctor, "ivgpu %s has it", version);
        ivg_conclude(doctor, IVG_OK, NULL, device);
}

void ivg_check_module(struct ivg_doctor *doctor)
{
        const struct devices *devices = devices_learn(doctor);
        struct bars bars;
        int looked = 0;

        for (int i = 0; i < devices->count; i++) {
                bars_read(doctor, devices->names[i], &bars);
                if (bars.bytes[2] < IVG_REGION_BYTES_MIN)
                        continue; /* another's, or told above */
                module_judge(doctor, devices->names[i]);
                looked++;
        }
        if (looked > 0)
                return;
        ivg_seen(doctor, "no device for it");
        ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
}

/* ---- node ---- */

static bool group_has(gid_t gid, const char *user)
{
        gid_t groups[256];
        int count = 256;
        const struct passwd *entry = getpwnam(user);

        if (!entry || getgrouplist(user, entry->pw_gid, groups, &count) < 0)
                return false;
        for (int i = 0; i < count; i++)
                if (groups[i] == gid)
                        return true;
        return false;
}

static void node_refuses(struct ivg_doctor *doctor, const char *node, const char *user, int rc)
{
        struct stat status = {0};
        char group[64], owner[64];

        stat(node, &status);
        ivg_user_name(status.st_uid, owner);
        ivg_group_name(status.st_gid, group);
        ivg_seen(doctor, "%s (%s:%s, mode %04o) does not let %s in: %s", node, owner, group, status.st_mode & 07777,
                 user, strerror(-rc));
        if (status.st_gid == 0 || (status.st_mode & 060) != 060)
                ivg_remedy(doctor,
                           "the udev rule is not in force: install 70-ivgpu.rules and the group (systemd-sysusers), "
                           "then: udevadm control -R; udevadm trigger -s ivgpu; usermod -aG ivgpu %s",
                           user);
        else if (group_has(status.st_gid, user))
                ivg_remedy(doctor, "%s is in the group %s since this session began: log in again, or: newgrp %s", user,
                           group, group);
        else
                ivg_remedy(doctor, "usermod -aG %s %s, then log in again", group, user);
        ivg_conclude(doctor, IVG_BAD, "node-permission", node);
}

static void node_judge(struct ivg_doctor *doctor, const char *node)
{
        char where[PATH_MAX], user[64];
        int rc;

        ivg_user_name(geteuid(), user);
        if (doctor->user && strcmp(doctor->user, user) != 0) {
                snprintf(user, sizeof(user), "%s", doctor->user);
                rc = ivg_user_reaches(user, node, R_OK | W_OK, where);
        } else {
                rc = access(node, R_OK | W_OK) < 0 ? -errno : 0;
        }
        if (rc == -ENOTSUP || rc == -ESRCH) {
                ivg_seen(doctor, "%s: whether user %s may open it was not tried: %s", node, user,
                         rc == -ESRCH ? "no such user" : "only root can");
                ivg_remedy(doctor, rc == -ESRCH ? "name one that exists: --user NAME" : "run ivgpu-doctor as root");
                ivg_conclude(doctor, IVG_UNKNOWN, NULL, node);
        } else if (rc < 0) {
                node_refuses(doctor, node, user, rc);
        } else {
                ivg_seen(doctor, "user %s may open it", user);
                ivg_conclude(doctor, IVG_OK, NULL, node);
        }
}

void ivg_check_node(struct ivg_doctor *doctor)
{
        char node[PATH_MAX];
        int looked = 0;

        for (unsigned int i = 0; i < IVG_LINK_DEVICES_MAX; i++) {
                ivg_system_path(doctor, node, "%s%u", IVG_LINK_DEVICE_PREFIX, i);
                if (access(node, F_OK) < 0)
                        continue;
                node_judge(doctor, node);
                looked++;
        }
        if (looked > 0)
                return;
        ivg_system_path(doctor, node, CLASS "0");
        if (access(node, F_OK) == 0) {
                ivg_seen(doctor, "the kernel driver has a device, and " IVG_LINK_DEVICE_PREFIX "0 is not there");
                ivg_remedy(doctor,
                           "mount devtmpfs on /dev; in a container pass the node in: --device " IVG_LINK_DEVICE_PREFIX
                           "0");
                ivg_conclude(doctor, IVG_BAD, "node-absent", "");
                return;
        }
        ivg_seen(doctor, "no node: the kernel driver has no device (see \"module\")");
        ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
}

/* ---- channels ---- */

static long long attribute(struct ivg_doctor *doctor, unsigned int device, const char *name)
{
        char path[PATH_MAX];

        ivg_system_path(doctor, path, CLASS "%u/%s", device, name);
        return ivg_file_number(path);
}

static void channels_judge(struct ivg_doctor *doctor, unsigned int device)
{
        const long long total = attribute(doctor, device, "channels_total"),
                        used = attribute(doctor, device, "channels_in_use"),
                        draining = attribute(doctor, device, "channels_draining"),
                        extents = attribute(doctor, device, "extents_total"),
                        taken = attribute(doctor, device, "extents_in_use") +
                                attribute(doctor, device, "extents_kept") + attribute(doctor, device, "extents_pinned"),
                        vectors = attribute(doctor, device, "vectors");
        char path[PATH_MAX], mapping[64], object[32];

        snprintf(object, sizeof(object), "ivgpu%u", device);
        ivg_system_path(doctor, path, CLASS "%u/mapping", device);
        ivg_file_line(path, mapping, sizeof(mapping));
        if (used + draining >= total) {
                ivg_seen(doctor,
                         "all %lld channels are taken (%lld of programs that have ended): the next program gets error "
                         "7 (QUEUE_FULL)",
                         total, draining);
                ivg_remedy(
                        doctor,
                        draining == total
                                ? "the host does not end them: ivgpu-doctor there (the mediator hangs, or is gone)"
                                : "end a program (cat /sys/class/ivgpu/%s/channels), or give the VM more: channels = "
                                  "N on the host, then start it again",
                        object);
                ivg_conclude(doctor, IVG_BAD, draining == total ? "channels-not-freed" : "channels-full", object);
                return;
        }
        if (vectors == 0) {
                ivg_seen(doctor, "no interrupt vector works: sleepers poll, which costs up to 1 ms a wake-up");
                ivg_remedy(doctor,
                           "take pci=nomsi off the kernel's command line; give the device vectors= as ivgpuctl attach "
                           "VM prints "
                           "it on the host; or the guest has run out of vectors: fewer devices, more processors");
                ivg_conclude(doctor, IVG_BAD, "no-interrupts", object);
                return;
        }
        if (taken >= extents) {
                ivg_seen(doctor, "all %lld extents of the arena are taken: pinned memory gets CUDA_ERROR_OUT_OF_MEMORY",
                         extents);
                ivg_remedy(
                        doctor,
                        "free pinned and managed memory, or a larger region_mib on the host, then start the VM again");
                ivg_conclude(doctor, IVG_BAD, "arena-full", object);
                return;
        }
        if (strcmp(mapping, "write-back") != 0) {
                ivg_seen(doctor, "programs map the region %s: copies are slow",
                         mapping[0] ? mapping : "in an unknown way");
                ivg_remedy(doctor,
                           "load ivgpu without parameters that change it; with \"nopat\" on the kernel's command line: "
                           "take it away");
                ivg_conclude(doctor, IVG_BAD, "mapping-uncached", object);
                return;
        }
        ivg_seen(doctor, "%lld of %lld channels free, %lld of %lld MiB, %lld vectors, %s, %lld MiB/s",
                 total - used - draining, total, (extents - taken) * 2, extents * 2, vectors, mapping,
                 attribute(doctor, device, "copy_mib_per_s"));
        ivg_conclude(doctor, IVG_OK, NULL, object);
}

void ivg_check_channels(struct ivg_doctor *doctor)
{
        int looked = 0;

        for (unsigned int i = 0; i < IVG_LINK_DEVICES_MAX; i++)
                if (attribute(doctor, i, "channels_total") > 0) {
                        channels_judge(doctor, i);
                        looked++;
                }
        if (looked > 0)
                return;
        ivg_seen(doctor, "the kernel driver has no device");
        ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
}
