/* ivgpu-doctor: walks the whole path, on the host or in a guest, and says of each part whether it is right, what was
 * seen, and what to do. */
#include "doctor.h"
#include "ivgpu/number.h"
#include "link_internal.h"
#include "sysfs_device.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BOTH (IVG_HOST_SIDE | IVG_GUEST_SIDE)

#define PATIENCE_S_MAX 3600u

enum exit_status { EXIT_HEALTHY = 0, EXIT_FAULTS = 1, EXIT_USAGE = 2 };

/* In the order of the path: what a check needs from an earlier one, that one has learnt (or learn.c does). */
static const struct ivg_check checks[] = {
        {"configuration", IVG_HOST_SIDE, "ivgpud's file can be read and holds", ivg_check_configuration},
        {"mediator", IVG_HOST_SIDE, "ivgpud answers on its control socket", ivg_check_mediator},
        {"state", IVG_HOST_SIDE, "each VM is known to it and may run programs", ivg_check_state},
        {"driver", IVG_HOST_SIDE, "the driver's library is found and starts; the pools' GPUs", ivg_check_driver},
        {"sharing", IVG_HOST_SIDE, "compute mode, MPS", ivg_check_sharing},
        {"socket", IVG_HOST_SIDE, "each VM's socket listens and lets QEMU's user in", ivg_check_socket},
        {"denials", IVG_HOST_SIDE, "AppArmor and SELinux have refused nothing", ivg_check_denials},
        {"emulator", IVG_HOST_SIDE, "QEMU has the device ivshmem-doorbell", ivg_check_emulator},
        {"qemu", IVG_HOST_SIDE, "each running QEMU has it right and is connected", ivg_check_qemu},
        {"region", IVG_HOST_SIDE, "its region: size, layout, heartbeat, whether a guest uses it", ivg_check_region},
        {"device", IVG_GUEST_SIDE, "the PCI device is there and placed", ivg_check_device},
        {"module", IVG_GUEST_SIDE, "the kernel driver has it, of this version", ivg_check_module},
        {"node", IVG_GUEST_SIDE, "/dev/ivgpuN lets the user in", ivg_check_node},
        {"channels", IVG_GUEST_SIDE, "channels and memory are free, interrupts work", ivg_check_channels},
        {"loader", IVG_GUEST_SIDE, "which libcuda.so.1 a program gets", ivg_check_loader},
        {"shim", BOTH, "ivgpu's libcuda.so.1 is of this build", ivg_check_shim},
        {"executor", BOTH, "an executor starts for a program", ivg_check_executor},
        {"gpu", BOTH, "it has a GPU: name, memory, version", ivg_check_gpu},
        {"roundtrip", BOTH, "one call there and back, and its time", ivg_check_roundtrip},
        {"kernel", BOTH, "one kernel, its result checked", ivg_check_kernel},
        {"copies", BOTH, "copies both ways, checked, and their speed", ivg_check_copies},
};
#define CHECKS (sizeof(checks) / sizeof(checks[0]))

static void checks_print(FILE *out)
{
        for (size_t i = 0; i < CHECKS; i++)
                fprintf(out, "    %-13s %-6s %s\n", checks[i].name,
                        checks[i].sides == BOTH            ? "both"
                        : checks[i].sides == IVG_HOST_SIDE ? "host"
                                                           : "guest",
                        checks[i].what);
}

static void usage(FILE *out)
{
        fprintf(out,
                "usage: ivgpu-doctor [OPTION...]\n\n"
                "Walks the whole path from a program to the GPU and says of each part: ok, NOT OK, ? (could not be "
                "looked at) or\n"
                "- (not applicable); what was seen; and, after \"->\", what to do. It changes nothing. As root it sees "
                "most.\n\n"
                "  --host, --guest    which side this machine is; found out by itself\n"
                "  --only=CHECK,...   these checks alone\n"
                "  --json             one JSON object: {\"healthy\", \"findings\": [{\"check\", \"verdict\", "
                "\"fault\", "
                "\"object\", \"seen\",\n"
                "                     \"remedy\"}]}; \"fault\" is a word of its own for each fault\n"
                "  --patience=S       seconds, with a driver that starts and with the whole way; default 120; a "
                "mediator has 3 at most\n  --list "
                "        "
                "    the checks\n"
                "  --help, --version\n\n"
                "On the host:\n"
                "  --config=FILE      ivgpud's configuration; default " IVG_CONFIG_STANDARD "\n"
                "  --control=SOCKET   ivgpud's control socket; default: as configured\n"
                "  --local=SOCKET     the socket of local programs; default: as configured\n"
                "  --vm=VM            this VM alone, by vm_id or name; that no QEMU has it is a fault then\n"
                "  --qemu-user=NAME   who must get into the VMs' sockets; default: the running QEMU's user, else "
                "libvirt-qemu, qemu\n"
                "  --emulator=FILE    QEMU; default qemu-system-x86_64\n\n"
                "In a guest:\n"
                "  --program=FILE     which libcuda.so.1 it gets, in this environment (it is not run); a script stands "
                "for "
                "its\n"
                "                     interpreter\n"
                "  --user=NAME        whose programs are to run; default: the caller's\n\n"
                "  --shim=FILE        ivgpu's libcuda.so.1; default: what programs get, else the one beside this "
                "program\n"
                "  --root=FOLDER      look at FOLDER/proc, FOLDER/sys, FOLDER/dev, FOLDER/var/log instead\n\n"
                "Checks:\n");
        checks_print(out);
        fprintf(out, "\nExit status: 0 nothing is wrong; 1 something is NOT OK; 2 usage.\n\n"
                     "Examples:\n"
                     "  ivgpu-doctor --vm=web --qemu-user=libvirt-qemu\n"
                     "  ivgpu-doctor --only=loader --program=/usr/bin/python3\n"
                     "  ivgpu-doctor --json | jq '.findings[] | select(.verdict == \"not ok\") | .fault'\n");
}

/* ---- which side ---- */

static bool ivgpud_look(struct ivg_process_view *process, void *argument)
{
        bool *found = argument;

        *found |= strcmp(process->name, "ivgpud") == 0;
        return *found;
}

/* A machine may be both: a guest that has guests. One that shows no sign of either is a host to be, or, when it is a
 * virtual machine, a guest whose device is missing. */
static unsigned int sides_find(struct ivg_doctor *doctor)
{
        char path[PATH_MAX], names[1][IVG_SYSFS_NAME_BYTES];
        static char processor[65536];
        unsigned int sides = 0;
        bool mediator = false;

        ivg_processes_look(doctor, ivgpud_look, &mediator);
        if (mediator || doctor->config_path || doctor->control || doctor->local ||
            access(IVG_CONFIG_STANDARD, F_OK) == 0)
                sides |= IVG_HOST_SIDE;
        ivg_system_path(doctor, path, IVG_LINK_SYSFS_ROOT);
        if (ivg_sysfs_device_list(path, names, 1) > 0)
                sides |= IVG_GUEST_SIDE;
        ivg_system_path(doctor, path, "/sys/module/ivgpu");
        if (access(path, F_OK) == 0)
                sides |= IVG_GUEST_SIDE;
        if (sides != 0)
                return sides;
        ivg_system_path(doctor, path, "/proc/cpuinfo");
        ivg_file_read(path, processor, sizeof(processor));
        return strstr(processor, " hypervisor") ? IVG_GUEST_SIDE : IVG_HOST_SIDE;
}

/* ---- which checks ---- */

static bool is_named(const char *only, const char *name)
{
        const size_t bytes = strlen(name);

        for (const char *at = only; at && *at; at += strcspn(at, ","), at += *at == ',')
                if (strcspn(at, ",") == bytes && strncmp(at, name, bytes) == 0)
                        return true;
        return !only;
}

static bool only_holds(const char *only)
{
        for (const char *at = only; at && *at; at += strcspn(at, ","), at += *at == ',') {
                bool known = false;

                for (size_t i = 0; i < CHECKS; i++)
                        known |= strlen(checks[i].name) == strcspn(at, ",") &&
                                 strncmp(at, checks[i].name, strlen(checks[i].name)) == 0;
                if (!known) {
                        fprintf(stderr, "ivgpu-doctor: --only: \"%.*s\" is no check (--list)\n", (int)strcspn(at, ","),
                                at);
                        return false;
                }
        }
        return true;
}

static bool run(struct ivg_doctor *doctor, const char *only, bool as_json)
{
        doctor->report = ivg_report_open(as_json);
        for (doctor->side = IVG_HOST_SIDE; doctor->side <= IVG_GUEST_SIDE; doctor->side <<= 1) {
                if (!(doctor->sides & doctor->side))
                        continue;
                if (!as_json)
                        printf("-- %s\n", doctor->side == IVG_HOST_SIDE ? "host" : "guest");
                doctor->walk = NULL; /* another way */
                for (size_t i = 0; i < CHECKS; i++)
                        if ((checks[i].sides & doctor->side) && is_named(only, checks[i].name)) {
                                ivg_report_check(doctor->report, &checks[i]);
                                checks[i].run(doctor);
                        }
        }
        return ivg_report_close(doctor->report);
}

int main(int argc, char **argv)
{
        static struct ivg_doctor doctor = {.root = "", .patience_ms = IVG_DOCTOR_PATIENCE_S * 1000};
        static const char *only;
        static const char **const texts[] = {&doctor.config_path,
                                             &doctor.control,
                                             &doctor.local,
                                             &doctor.vm,
                                             &doctor.qemu_user,
                                             &doctor.emulator,
                                             &doctor.program,
                                             &doctor.user,
                                             &doctor.shim,
                                             &doctor.root,
                                             &only};
        enum { TEXT_FIRST = 256 };
        static const struct option names[] = {
                {"config", required_argument, NULL, TEXT_FIRST},
                {"control", required_argument, NULL, TEXT_FIRST + 1},
                {"local", required_argument, NULL, TEXT_FIRST + 2},
                {"vm", required_argument, NULL, TEXT_FIRST + 3},
                {"qemu-user", required_argument, NULL, TEXT_FIRST + 4},
                {"emulator", required_argument, NULL, TEXT_FIRST + 5},
                {"program", required_argument, NULL, TEXT_FIRST + 6},
                {"user", required_argument, NULL, TEXT_FIRST + 7},
                {"shim", required_argument, NULL, TEXT_FIRST + 8},
                {"root", required_argument, NULL, TEXT_FIRST + 9},
                {"only", required_argument, NULL, TEXT_FIRST + 10},
                {"patience", required_argument, NULL, 'p'},
                {"host", no_argument, NULL, 'H'},
                {"guest", no_argument, NULL, 'G'},
                {"json", no_argument, NULL, 'j'},
                {"list", no_argument, NULL, 'l'},
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, 'v'},
                {NULL, 0, NULL, 0},
        };
        bool as_json = false;
        uint64_t number;
        int option;

        while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
                switch (option) {
                case 'H':
                        doctor.sides |= IVG_HOST_SIDE;
                        break;
                case 'G':
                        doctor.sides |= IVG_GUEST_SIDE;
                        break;
                case 'p':
                        if (!ivg_number_option("patience", optarg, 1, PATIENCE_S_MAX, &number))
                                return EXIT_USAGE;
                        doctor.patience_ms = (unsigned int)number * 1000;
                        break;
                case 'j':
                        as_json = true;
                        break;
                case 'l':
                        checks_print(stdout);
                        return EXIT_HEALTHY;
                case 'h':
                        usage(stdout);
                        return EXIT_HEALTHY;
                case 'v':
                        puts("ivgpu-doctor " IVG_VERSION);
                        return EXIT_HEALTHY;
                default:
                        if (option < TEXT_FIRST) {
                                usage(stderr);
                                return EXIT_USAGE;
                        }
                        *texts[option - TEXT_FIRST] = optarg;
                        break;
                }
        }
        if (optind != argc) {
                fprintf(stderr, "ivgpu-doctor: \"%s\" is not expected\n", argv[optind]);
                return EXIT_USAGE;
        }
        if (!only_holds(only))
                return EXIT_USAGE;
        doctor.answer_s =
                doctor.patience_ms / 1000 < IVG_DOCTOR_ANSWER_S ? doctor.patience_ms / 1000 : IVG_DOCTOR_ANSWER_S;
        if (doctor.sides == 0)
                doctor.sides = sides_find(&doctor);
        return run(&doctor, only, as_json) ? EXIT_HEALTHY : EXIT_FAULTS;
}
