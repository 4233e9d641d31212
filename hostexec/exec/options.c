/* Reads the executor's command line. Every mistake is named with its option and value. */
#include "options.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_key {
        OPTION_REGION_FD = 256,
        OPTION_DOORBELL_FD,
        OPTION_INTERRUPT_FD,
        OPTION_CONTROL_FD,
        OPTION_CHANNEL,
        OPTION_GENERATION,
        OPTION_DRIVER,
        OPTION_VM_ID,
        OPTION_LOG_LEVEL,
        OPTION_IPC_FD,
        OPTION_IMAGES_FD,
        OPTION_HELP,
};

static const struct option long_options[] = {
        {"region-fd", required_argument, NULL, OPTION_REGION_FD},
        {"doorbell-fd", required_argument, NULL, OPTION_DOORBELL_FD},
        {"interrupt-fd", required_argument, NULL, OPTION_INTERRUPT_FD},
        {"control-fd", required_argument, NULL, OPTION_CONTROL_FD},
        {"channel", required_argument, NULL, OPTION_CHANNEL},
        {"generation", required_argument, NULL, OPTION_GENERATION},
        {"driver", required_argument, NULL, OPTION_DRIVER},
        {"vm-id", required_argument, NULL, OPTION_VM_ID},
        {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
        {"ipc-fd", required_argument, NULL, OPTION_IPC_FD},
        {"images-fd", required_argument, NULL, OPTION_IMAGES_FD},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0},
};

static const char usage[] = "usage: ivgpu-exec --region-fd N --doorbell-fd N --interrupt-fd N|-1 --control-fd N "
                            "--channel C --generation G\n"
                            "                  --driver PATH [--vm-id V] [--ipc-fd N] [--images-fd N]\n"
                            "                  [--log-level error|warning|info|debug]\n"
                            "Started by ivgpud for one guest process; see docs/ for the protocol of its descriptors.\n";

static bool parse_number(const char *option, const char *text, long long low, long long high, long long *number)
{
        char *rest;

        errno = 0;
        *number = strtoll(text, &rest, 10);
        if (errno || rest == text || *rest || *number < low || *number > high) {
                fprintf(stderr, "ivgpu-exec: --%s: '%s' is not a number from %lld to %lld\n", option, text, low, high);
                return false;
        }
        return true;
}

static bool parse_fd(const char *option, const char *text, bool may_lack, int *fd)
{
        long long number;

        if (!parse_number(option, text, may_lack ? -1 : 0, INT_MAX, &number))
                return false;
        *fd = (int)number;
        if (*fd >= 0 && fcntl(*fd, F_SETFD, FD_CLOEXEC) < 0) {
                fprintf(stderr, "ivgpu-exec: --%s: descriptor %d: %s\n", option, *fd, strerror(errno));
                return false;
        }
        return true;
}

static bool parse_u32(const char *option, const char *text, uint32_t *value)
{
        long long number;

        if (!parse_number(option, text, 0, UINT32_MAX, &number))
                return false;
        *value = (uint32_t)number;
        return true;
}

static bool parse_one(struct ivg_exec_options *options, int key, const char *name, const char *value)
{
        switch (key) {
        case OPTION_REGION_FD:
                return parse_fd(name, value, false, &options->channel.region_fd);
        case OPTION_DOORBELL_FD:
                return parse_fd(name, value, false, &options->channel.doorbell_fd);
        case OPTION_INTERRUPT_FD:
                return parse_fd(name, value, true, &options->channel.interrupt_fd);
        case OPTION_CONTROL_FD:
                return parse_fd(name, value, false, &options->control_fd);
        case OPTION_CHANNEL:
                return parse_u32(name, value, &options->channel.channel);
        case OPTION_GENERATION:
                return parse_u32(name, value, &options->channel.generation);
        case OPTION_DRIVER:
                options->driver = value;
                return true;
        case OPTION_VM_ID:
                return parse_u32(name, value, &options->vm_id);
        case OPTION_IPC_FD:
                return parse_fd(name, value, true, &options->channel.ipc_fd);
        case OPTION_IMAGES_FD:
                return parse_fd(name, value, true, &options->channel.images_fd);
        case OPTION_LOG_LEVEL:
                if (ivg_log_level_parse(value, &options->log_level))
                        return true;
                fprintf(stderr, "ivgpu-exec: --log-level: '%s' is none of error, warning, info, debug\n", value);
                return false;
        default:
                fputs(usage, key == OPTION_HELP ? stdout : stderr);
                return false;
        }
}

bool ivg_exec_options_parse(struct ivg_exec_options *options, int argc, char **argv)
{
        uint32_t given = 0;
        int key, index = 0;

        *options = (struct ivg_exec_options){.log_level = IVG_LOG_INFO, .channel.ipc_fd = -1, .channel.images_fd = -1};
        while ((key = getopt_long(argc, argv, "", long_options, &index)) != -1) {
                const char *name = key >= OPTION_REGION_FD ? long_options[key - OPTION_REGION_FD].name : "";

                if (!parse_one(options, key, name, optarg))
                        return false;
                given |= 1u << (key - OPTION_REGION_FD);
        }
        if (optind < argc) {
                fprintf(stderr, "ivgpu-exec: unexpected argument '%s'\n", argv[optind]);
                return false;
        }
        for (key = OPTION_REGION_FD; key <= OPTION_DRIVER; key++)
                if (!(given & 1u << (key - OPTION_REGION_FD))) {
                        fprintf(stderr, "ivgpu-exec: --%s is missing\n", long_options[key - OPTION_REGION_FD].name);
                        return false;
                }
        return true;
}
