/* QEMU: whether the emulator has the device, and whether a running one has it right and is connected. */
#include "doctor.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES 256u

void ivg_check_emulator(struct ivg_doctor *doctor)
{
        static struct ivg_child child;
        char standard[] = "qemu-system-x86_64", device[] = "-device", help[] = "help";
        char *given = doctor->emulator ? strdup(doctor->emulator) : standard;
        char *const arguments[] = {given, device, help, NULL};

        ivg_child_program(arguments, NULL, IVG_DOCTOR_PROGRAM_MS, &child);
        if (strstr(child.output, "\"ivshmem-doorbell\"")) {
                ivg_seen(doctor, "%s has ivshmem-doorbell", given);
                ivg_conclude(doctor, IVG_OK, NULL, "");
        } else if (child.status == 127 << 8 && !doctor->emulator) {
                ivg_seen(doctor, "no %s in PATH", given);
                ivg_remedy(doctor, "if VMs run with another one, name it: --emulator FILE");
                ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
        } else {
                ivg_seen(doctor, "%s -device help does not list ivshmem-doorbell%s%.200s", given,
                         child.status != 0 ? ": " : "", child.status != 0 ? child.output : "");
                ivg_remedy(doctor,
                           "use a QEMU that was built with ivshmem, as Debian's qemu-system-x86 is (stock: no "
                           "patch is needed; distributions that leave it out say so with CONFIG_IVSHMEM_DEVICE)");
                ivg_conclude(doctor, IVG_BAD, "emulator-lacks-device", "");
        }
        if (given != standard)
                free(given);
}

/* ---- options on a command line ---- */

/* The value of `key` in "first,key=value,...", commas doubled inside values, or in JSON, as libvirt writes it. An empty
 * key: the first word, or "driver". */
static bool option_get(const char *option, const char *key, char value[VALUE_BYTES])
{
        const size_t key_bytes = strlen(key);

        value[0] = '\0';
        if (option[0] == '{') {
                struct json_object *object = json_tokener_parse(option), *found;
                const bool there = json_object_object_get_ex(object, key_bytes ? key : "driver", &found);

                if (there)
                        snprintf(value, VALUE_BYTES, "%s", json_object_get_string(found));
                json_object_put(object);
                return there;
        }
        for (bool first = true; *option; first = false) {
                char word[VALUE_BYTES];
                size_t used = 0;

                while (*option && (*option != ',' || option[1] == ',')) {
                        option += *option == ',';
                        if (used < sizeof(word) - 1)
                                word[used++] = *option;
                        option++;
                }
                option += *option == ',';
                word[used] = '\0';
                if (first && key_bytes == 0 && !strchr(word, '=')) {
                        memcpy(value, word, used + 1);
                        return true;
                }
                if (key_bytes ? strncmp(word, key, key_bytes) == 0 && word[key_bytes] == '='
                              : strncmp(word, "driver=", 7) == 0) {
                        strcpy(value, strchr(word, '=') + 1);
                        return true;
                }
        }
        return false;
}

static bool option_is(const char *option, const char *key, const char *wanted)
{
        char value[VALUE_BYTES];

        return option_get(option, key, value) && strcmp(value, wanted) == 0;
}

/* Options of one name in turn; `at` begins at 0. */
static const char *option_next(const struct ivg_process_view *process, const char *name, unsigned int *at)
{
        while (++*at < process->argument_count)
                if (strcmp(process->arguments[*at - 1], name) == 0)
                        return process->arguments[*at];
        return NULL;
}

static bool same_file(const char *a, const char *b)
{
        char real_a[PATH_MAX], real_b[PATH_MAX];

        return strcmp(a, b) == 0 || (realpath(a, real_a) && realpath(b, real_b) && strcmp(real_a, real_b) == 0);
}

/* ---- a running QEMU ---- */

struct qemu_search { /* which has a VM's socket, and what else was met */
        const struct ivg_vm_config *vm;
        pid_t pid; /* 0: none */
        bool reconnects, has_device;
        char driver[VALUE_BYTES];
        unsigned int vectors;
        unsigned long long window_bytes; /* of the root port that the device sits on; 0: not said */
        unsigned int others, plain;      /* QEMUs without this socket; those of them with ivshmem-plain */
};

static unsigned long long size_read(const char *text)
{
        char *end;
        unsigned long long size = strtoull(text, &end, 0);

        switch (*end) {
        case 'T':
        case 't':
                size <<= 10; /* fall through */
        case 'G':
        case 'g':
                size <<= 10; /* fall through */
        case 'M':
        case 'm':
                size <<= 10; /* fall through */
        case 'K':
        case 'k':
                size <<= 10;
        }
        return size;
}

static void device_read(const struct ivg_process_view *process, const char *device, struct qemu_search *search)
{
        char value[VALUE_BYTES], bus[VALUE_BYTES];
        const char *port;
        unsigned int at = 0;

        search->has_device = true;
        option_get(device, "", search->driver);
        search->vectors = option_get(device, "vectors", value) ? (unsigned int)strtoul(value, NULL, 0) : 1;
        if (!option_get(device, "bus", bus))
                return;
        while ((port = option_next(process, "-device", &at)) != NULL)
                if (option_is(port, "id", bus) && option_get(port, "pref64-reserve", value))
                        search->window_bytes = size_read(value);
}

static bool qemu_look(struct ivg_process_view *process, void *argument)
{
        struct qemu_search *search = argument;
        char id[VALUE_BYTES] = "", path[VALUE_BYTES], value[VALUE_BYTES];
        const char *option;
        unsigned int at = 0;
        bool plain = false;

        while ((option = option_next(process, "-chardev", &at)) != NULL)
                if (option_get(option, "path", path) && same_file(path, search->vm->socket)) {
                        search->pid = process->pid;
                        option_get(option, "id", id);
                        search->reconnects = (option_get(option, "reconnect", value) && strcmp(value, "0") != 0) ||
                                             (option_get(option, "reconnect-ms", value) && strcmp(value, "0") != 0);
                }
        at = 0;
        while ((option = option_next(process, "-device", &at)) != NULL) {
                if (search->pid == process->pid && option_is(option, "chardev", id))
                        device_read(process, option, search);
                plain |= option_is(option, "", "ivshmem-plain");
        }
        if (search->pid == process->pid)
                return true;
        if (process->argument_count > 0 && strstr(process->arguments[0], "qemu-system")) {
                search->others++;
                search->plain += plain;
        }
        return false;
}

static void qemu_missing(struct ivg_doctor *doctor, const struct qemu_search *search, const char *name)
{
        if (search->plain > 0)
                ivg_seen(doctor, "no QEMU has %s; %u of %u that run have ivshmem-plain, which has no doorbell",
                         search->vm->socket, search->plain, search->others);
        else
                ivg_seen(doctor, "no QEMU has %s (%u run without it)", search->vm->socket, search->others);
        if (doctor->vm || search->plain > 0)
                ivg_remedy(doctor, "give the VM the device and start it: ivgpuctl attach %u --format qemu, or libvirt",
                           search->vm->vm_id);
        /* A VM that does not run is no fault, unless it was asked for. */
        if (doctor->vm)
                ivg_conclude(doctor, IVG_BAD, search->plain ? "qemu-plain-device" : "qemu-absent", name);
        else
                ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, name);
}

static void qemu_judge(struct ivg_doctor *doctor, const struct qemu_search *search, const char *name)
{
        const struct ivg_vm_config *vm = search->vm;
        struct ivg_socket_view view = {0};

        ivg_socket_look(doctor, vm->socket, &view);
        if (search->reconnects) {
                ivg_seen(doctor,
                         "QEMU (process %d) has reconnect= on this chardev: it would take another region under a "
                         "running guest",
                         (int)search->pid);
                ivg_remedy(doctor, "leave reconnect= out and start the VM again: ivgpuctl attach %u", vm->vm_id);
                ivg_conclude(doctor, IVG_BAD, "qemu-reconnects", name);
        } else if (!search->has_device || strcmp(search->driver, "ivshmem-doorbell") != 0) {
                ivg_seen(doctor, "QEMU (process %d) has the socket, but %s%s for it", (int)search->pid,
                         search->has_device ? "the device " : "no device", search->driver);
                ivg_remedy(doctor, "the device is ivshmem-doorbell,chardev=...,vectors=%u: ivgpuctl attach %u",
                           vm->vectors, vm->vm_id);
                ivg_conclude(doctor, IVG_BAD, "qemu-lacks-device", name);
        } else if (search->vectors != vm->vectors) {
                ivg_seen(doctor, "QEMU (process %d) has vectors=%u, the configuration vectors = %u", (int)search->pid,
                         search->vectors, vm->vectors);
                ivg_remedy(doctor,
                           "make them equal: vectors=%u in the VM's definition and start it again, or vectors = %u; "
                           "in %s and ivgpuctl reload before its start",
                           vm->vectors, search->vectors, ivg_config_place(doctor));
                ivg_conclude(doctor, IVG_BAD, "qemu-vectors", name);
        } else if (search->window_bytes > 0 && search->window_bytes < (unsigned long long)vm->region_mib << 20) {
                ivg_seen(doctor,
                         "QEMU (process %d): pref64-reserve=%lluM is below the region's %u MiB: the guest cannot "
                         "place it",
                         (int)search->pid, search->window_bytes >> 20, vm->region_mib);
                ivg_remedy(doctor, "pref64-reserve=%uM on the root port, and start the VM again: ivgpuctl attach %u",
                           vm->region_mib, vm->vm_id);
                ivg_conclude(doctor, IVG_BAD, "qemu-window-small", name);
        } else if (view.connected == 0) {
                ivg_seen(doctor,
                         "QEMU (process %d) has the device and is not connected to %s: it connects once, at its "
                         "start, and ivgpud was not there then or has been restarted since",
                         (int)search->pid, vm->socket);
                ivg_remedy(doctor,
                           "start the VM again, or by QMP: device_del, chardev-remove, chardev-add, device_add (the "
                           "guest goes on)");
                ivg_conclude(doctor, IVG_BAD, "qemu-not-connected", name);
        } else {
                ivg_seen(doctor, "QEMU (process %d) is connected, %u vectors", (int)search->pid, search->vectors);
                ivg_conclude(doctor, IVG_OK, NULL, name);
        }
}

void ivg_check_qemu(struct ivg_doctor *doctor)
{
        const struct ivg_vm_config *vm = NULL;
        unsigned int looked = 0;
        char name[64];

        while ((vm = ivg_next_vm(doctor, vm, name)) != NULL) {
                struct qemu_search search = {.vm = vm};

                if (vm->socket[0] == '\0')
                        continue;
                looked++;
                ivg_processes_look(doctor, qemu_look, &search);
                if (search.pid != 0)
                        qemu_judge(doctor, &search, name);
                else
                        qemu_missing(doctor, &search, name);
        }
        if (looked > 0)
                return;
        ivg_seen(doctor, "no VM with a socket is configured");
        ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
}
