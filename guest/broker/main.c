/* ivgpu-broker: gives a guest's programs their way to the host where the kernel driver is not installed.
 *
 * The device must have been given to vfio-pci (ivgpu-broker-bind). Needs no rights but those of /dev/vfio/GROUP and of
 * the socket's folder. Ends with the device, or by SIGTERM: programs then get errors. */
#include "broker.h"
#include "sysfs_device.h"
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SYSFS_ROOT "/sys/bus/pci/devices"

void ivg_broker_log(const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        fputs("ivgpu-broker: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
}

/* Blocked before anything else, so that whoever ends us early is served too. */
static int signals_open(void)
{
        sigset_t ends;

        sigemptyset(&ends);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        sigprocmask(SIG_BLOCK, &ends, NULL);
        return signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void usage(FILE *out)
{
        fputs("usage: ivgpu-broker [--device NAME] [--socket PATH] [--group NAME]\n"
              "Gives programs channels of the ivshmem device that vfio-pci has.\n"
              "  --device NAME   the device's PCI address; the first of ours when absent\n"
              "  --socket PATH   where programs ask (" IVG_BROKER_SOCKET_DEFAULT ")\n"
              "  --group NAME    whose members may, beside its own user\n",
              out);
}

/* The device that was named, or the first that vfio-pci has and that is ours. */
static int device_open(struct ivg_broker *broker, const char *name, struct ivg_error *error)
{
        static char names[IVG_SYSFS_DEVICES_MAX][IVG_SYSFS_NAME_BYTES]; /* the broker keeps the one it opens */
        int count, rc = -ENOENT;

        if (name)
                return ivg_broker_open(broker, SYSFS_ROOT, name, error);
        count = ivg_sysfs_device_list(SYSFS_ROOT, names, IVG_SYSFS_DEVICES_MAX);
        ivg_error_set(error, "%s: %s", SYSFS_ROOT, count < 0 ? strerror(-count) : "no ivshmem device");
        for (int i = 0; i < count && rc < 0; i++) {
                rc = ivg_broker_open(broker, SYSFS_ROOT, names[i], error);
                if (rc < 0)
                        ivg_error_prefix(error, "%s", names[i]);
        }
        return rc;
}

static int socket_open(const char *path, const char *group, struct ivg_error *error)
{
        const int fd = ivg_server_listen(path, group ? 0660 : 0600, SOCK_SEQPACKET, error);
        const struct group *entry;
        char *end = NULL;
        gid_t number;

        if (fd < 0 || !group)
                return fd;
        entry = getgrnam(group);
        number = entry ? entry->gr_gid : (gid_t)strtoul(group, &end, 10);
        if ((!entry && (end == group || *end != '\0')) || chown(path, (uid_t)-1, number) < 0) {
                ivg_error_set(error, "%s: group %s: %s", path, group, end == group ? "no such group" : strerror(errno));
                unlink(path);
                close(fd);
                return -EINVAL;
        }
        return fd;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                                {"socket", required_argument, NULL, 's'},
                                                {"group", required_argument, NULL, 'g'},
                                                {"help", no_argument, NULL, 'h'},
                                                {NULL, 0, NULL, 0}};
        static struct ivg_broker broker;
        const char *device = NULL, *path = IVG_BROKER_SOCKET_DEFAULT, *group = NULL;
        struct ivg_error error = {""};
        int option;

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (option) {
                case 'd':
                        device = optarg;
                        break;
                case 's':
                        path = optarg;
                        break;
                case 'g':
                        group = optarg;
                        break;
                case 'h':
                        usage(stdout);
                        return 0;
                default:
                        usage(stderr);
                        return 2;
                }
        }
        broker.signal_fd = signals_open();
        if (broker.signal_fd < 0 || device_open(&broker, device, &error) < 0) {
                ivg_broker_log("%s", broker.signal_fd < 0 ? strerror(errno) : error.text);
                return 1;
        }
        broker.listen_fd = socket_open(path, group, &error);
        if (broker.listen_fd < 0) {
                ivg_broker_log("%s", error.text);
                ivg_broker_close(&broker);
                return 1;
        }
        ivg_broker_log("%s: VM %u (%s), %u channels, %u vectors%s, at %s", broker.device_name, broker.region.vm_id,
                       broker.region.vm_name, broker.region.channel_count, broker.vectors_usable,
                       broker.vectors_are_shared ? " (shared)" : "", path);
        ivg_broker_log("%s", ivg_broker_serve(&broker));
        unlink(path);
        ivg_broker_close(&broker);
        return 0;
}
