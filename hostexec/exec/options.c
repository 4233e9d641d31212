/* Reads the executor's command line. Every mistake is named with its option and value. */
#include "options.h"
#include "ivgpu/number.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_key {
        OPTION_CONTROL_FD = 256,
        OPTION_DRIVER,
        OPTION_WARM,
        OPTION_MPS,
        OPTION_LOG_LEVEL,
        OPTION_HELP,
};

static const struct option long_options[] = {
        {"control-fd", required_argument, NULL, OPTION_CONTROL_FD},
        {"driver", required_argument, NULL, OPTION_DRIVER},
        {"warm", required_argument, NULL, OPTION_WARM},
        {"mps", no_argument, NULL, OPTION_MPS},
        {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0},
};

static const char usage[] =
        "usage: ivgpu-exec --control-fd N --driver PATH [--warm MS] [--mps] [--log-level LEVEL]\n"
        "Started by ivgpud, which gives it one guest process's channel over the control socket.\n"
        "  --control-fd N   the socket\n"
        "  --driver PATH    the libcuda.so.1 that it loads\n"
        "  --warm MS        makes a context before a channel comes, and gives it up when it is unused for so long\n"
        "  --mps            an MPS server is to serve it: without one it fails\n"
        "  --log-level error|warning|info|debug  what it says\n";

static bool parse_control_fd(const char *text, int *fd)
{
        uint64_t number;

        if (!ivg_number_option("control-fd", text, 0, INT_MAX, &number))
                return false;
        *fd = (int)number;
        if (fcntl(*fd, F_SETFD, FD_CLOEXEC) < 0) {
                fprintf(stderr, "ivgpu-exec: --control-fd: descriptor %d: %s\n", *fd, strerror(errno));
                return false;
        }
        return true;
}

static bool parse_one(struct ivg_exec_options *options, int key, const char *value)
{
        uint64_t number;

        switch (key) {
        case OPTION_CONTROL_FD:
                return parse_control_fd(value, &options->control_fd);
        case OPTION_DRIVER:
                options->driver = value;
                return true;
        case OPTION_WARM:
                options->warm = true;
                if (!ivg_number_option("warm", value, 0, INT_MAX, &number))
                        return false;
                options->warm_unused_ms = (int)number;
                return true;
        case OPTION_MPS:
                return options->mps = true;
        case OPTION_LOG_LEVEL:
                if (ivg_log_level_parse(value, &options->log_level))
                        return true;
                fprintf(stderr, "ivgpu-exec: --log-level: '%s' is none of error, warning, info, debug\n", value);
                return false;
        default:
                fputs(usage, key == OPTION_HELP ? stdout : stderr);
                if (key == OPTION_HELP)
                        exit(0);
                return false;
        }
}

bool ivg_exec_options_parse(struct ivg_exec_options *options, int argc, char **argv)
{
        int key;

        *options = (struct ivg_exec_options){.control_fd = -1, .log_level = IVG_LOG_INFO};
        while ((key = getopt_long(argc, argv, "", long_options, NULL)) != -1)
                if (!parse_one(options, key, optarg))
                        return false;
        if (optind < argc) {
                fprintf(stderr, "ivgpu-exec: unexpected argument '%s'\n", argv[optind]);
                return false;
        }
        if (options->control_fd < 0 || !options->driver) {
                fprintf(stderr, "ivgpu-exec: --%s is missing\n", options->control_fd < 0 ? "control-fd" : "driver");
                return false;
        }
        return true;
}
