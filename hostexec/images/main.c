/* ivgpu-images: keeps module images for all executors of one ivgpud, so that they cross once (image_control.h).
 *
 * Started by ivgpud with one socket, ends with it. Holds no guest's secret but the images themselves, loads no driver,
 * opens nothing. */
#include "image_control.h"
#include "ivgpu/number.h"
#include "keeper.h"
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define EXIT_USAGE 2
#define EXIT_START 3
/* Descriptors beside the images': sockets of executors, and a few. */
#define DESCRIPTORS_APART 512u

struct options {
        int control_fd;
        struct ivg_image_limits limits;
};

static void usage(FILE *out)
{
        fputs("usage: ivgpu-images --control-fd N --bytes B --tenant-bytes B --count N\n"
              "Started by ivgpud.\n"
              "  --control-fd N      the socket on which executors' sockets come\n"
              "  --bytes B           kept at most\n"
              "  --tenant-bytes B    kept at most of what one VM brought\n"
              "  --count N           images at most\n",
              out);
}

static bool parse(int argc, char **argv, struct options *options)
{
        static const struct option names[] = {
                {"control-fd", required_argument, NULL, 'c'},
                {"bytes", required_argument, NULL, 'b'},
                {"tenant-bytes", required_argument, NULL, 't'},
                {"count", required_argument, NULL, 'n'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        uint64_t value = 0;
        int key, index = 0;

        *options = (struct options){.control_fd = -1};
        while ((key = getopt_long(argc, argv, "", names, &index)) != -1) {
                if (key == 'h') {
                        usage(stdout);
                        exit(0);
                }
                if (key == '?' || !ivg_number_option(names[index].name, optarg, 0,
                                                     key == 'c' || key == 'n' ? INT_MAX : LLONG_MAX, &value))
                        return false;
                if (key == 'c')
                        options->control_fd = (int)value;
                else if (key == 'b')
                        options->limits.bytes_max = value;
                else if (key == 't')
                        options->limits.tenant_bytes_max = value;
                else
                        options->limits.count_max = (uint32_t)value;
        }
        if (options->control_fd >= 0 && optind == argc)
                return true;
        usage(stderr);
        return false;
}

static void harden(pid_t parent)
{
        const struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        if (getppid() != parent) /* the mediator died before the line above */
                _exit(0);
        signal(SIGPIPE, SIG_IGN);
}

/* An image is a descriptor: there can be no more images than those. */
static void count_fit(struct ivg_image_limits *limits)
{
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY)
                return;
        const uint64_t most =
                files.rlim_cur > 2 * DESCRIPTORS_APART ? files.rlim_cur - DESCRIPTORS_APART : files.rlim_cur / 2;

        if (limits->count_max > most) {
                fprintf(stderr, "ivgpu-images: %llu images at most, not %u: the limit of open files is %llu\n",
                        (unsigned long long)most, limits->count_max, (unsigned long long)files.rlim_cur);
                limits->count_max = (uint32_t)most;
        }
}

int main(int argc, char **argv)
{
        const pid_t parent = getppid();
        struct options options;
        struct ivg_keeper *keeper;

        if (!parse(argc, argv, &options))
                return EXIT_USAGE;
        harden(parent);
        count_fit(&options.limits);
        keeper = ivg_keeper_create(options.control_fd, &options.limits);
        if (!keeper) {
                fprintf(stderr, "ivgpu-images: no memory or no descriptors\n");
                return EXIT_START;
        }
        while (ivg_keeper_turn(keeper, -1))
                ;
        ivg_keeper_destroy(keeper);
        return 0;
}
