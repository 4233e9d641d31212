/* Inside ivgpu-doctor: what a check is given, how it says what it found, and helpers that several checks use.
 *
 *   main.c ── report.c            what was found, as lines or as JSON
 *          ├─ host_mediator.c     configuration, mediator, its state of each VM
 *          ├─ host_socket.c       each VM's socket: who listens, whom it lets in; denials of AppArmor and SELinux
 *          ├─ host_qemu.c         the emulator and running ones: device, vectors, connection
 *          ├─ host_region.c       the region that a QEMU was given
 *          ├─ host_driver.c       the driver's library, GPUs, compute mode, MPS
 *          ├─ guest.c             PCI device, kernel driver, node, channels
 *          ├─ loader.c            which libcuda.so.1 a program gets, and of which build it is
 *          └─ path.c              a program's way: executor, GPU, round trip, kernel, copies ── path_walk.c walks it
 *   files.c, processes.c, child.c, learn.c   helpers
 *
 * A check changes nothing and waits for nobody longer than a named time. It reports findings: each says what was looked
 * at, what was seen and, where something is wrong, what to do. */
#ifndef IVG_DOCTOR_H
#define IVG_DOCTOR_H

#include "config.h"
#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define IVG_DOCTOR_TEXT_BYTES 1024u
#define IVG_DOCTOR_ANSWER_S 3u             /* a mediator answers at once */
#define IVG_DOCTOR_PROGRAM_MS 10000u       /* the loader's list, an emulator's help */
#define IVG_DOCTOR_OUTPUT_BYTES (1u << 20) /* of a child that are looked at */
/* For a driver that starts (seconds on a machine with many GPUs), and for the whole way, in a guest whose processor is
 * emulated too. */
#define IVG_DOCTOR_PATIENCE_S 120u

enum ivg_verdict {
        IVG_OK,
        IVG_BAD,            /* a fault, with its remedy */
        IVG_UNKNOWN,        /* could not be looked at, and what would allow it */
        IVG_NOT_APPLICABLE, /* nothing to look at here */
};

enum ivg_side { IVG_HOST_SIDE = 1, IVG_GUEST_SIDE = 2 };

struct ivg_doctor {
        /* asked for */
        unsigned int sides, side;    /* of enum ivg_side: those to look at; the one that is being looked at */
        const char *root;            /* before every path of the system; "": this machine */
        const char *config_path;     /* NULL: the standard place */
        const char *control, *local; /* sockets; NULL: as configured, or the standard place */
        const char *qemu_user;       /* NULL: the running QEMU's */
        const char *vm;              /* a vm_id or name: this one alone, and its QEMU must run; NULL: all */
        const char *user;            /* whose programs are to run in this guest; NULL: the caller's */
        const char *program;         /* whose libcuda.so.1 is asked after; NULL: any program's */
        const char *shim;            /* a libcuda.so.1 of ours, for the way through; NULL: found */
        const char *emulator;        /* QEMU's program; NULL: qemu-system-x86_64 in PATH */
        unsigned int patience_ms;    /* with a driver that starts, and with the whole way */
        unsigned int answer_s;       /* with a mediator: IVG_DOCTOR_ANSWER_S, or less patience */
        /* learnt on the way, once (learn.c) */
        struct ivg_config *config; /* NULL: none that holds */
        char config_words[IVG_DOCTOR_TEXT_BYTES];
        bool config_tried;
        struct json_object *list; /* the mediator's answer; NULL: none */
        int list_rc;
        char list_words[IVG_DOCTOR_TEXT_BYTES];
        bool list_tried;
        char shim_found[PATH_MAX];  /* by loader.c: ours, and the one that programs get; empty: not known */
        struct ivg_path_walk *walk; /* path.c; of this side */
        /* the report */
        struct ivg_report *report;
};

struct ivg_check {
        const char *name;
        unsigned int sides;
        const char *what; /* a line for --list */
        void (*run)(struct ivg_doctor *doctor);
};

/* ---- report.c ---- */

/* A finding is said in up to three steps: what was seen, what to do, and the verdict, which ends it. `object` is what
 * it is about where a check looks at several ("VM 7 (web)"), or "". `fault` is a word of its own for each fault, for
 * programs; NULL unless IVG_BAD. */
void ivg_seen(struct ivg_doctor *doctor, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ivg_remedy(struct ivg_doctor *doctor, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ivg_conclude(struct ivg_doctor *doctor, enum ivg_verdict verdict, const char *fault, const char *object);

struct ivg_report *ivg_report_open(bool as_json);
void ivg_report_check(struct ivg_report *report, const struct ivg_check *check); /* the following findings are its */
/* Prints the end, or all of it as JSON. True: no fault was found. */
bool ivg_report_close(struct ivg_report *report);

/* ---- files.c ---- */

/* "ROOT" and the rest, in `path`. */
void ivg_system_path(const struct ivg_doctor *doctor, char path[PATH_MAX], const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* Up to bytes - 1 of a file, NUL-terminated; how many, or -errno. */
ssize_t ivg_file_read(const char *path, char *text, size_t bytes);
/* A short one without its last newline; empty when it cannot be read. */
void ivg_file_line(const char *path, char *text, size_t bytes);
/* The number in it, as C reads one; -1: none. */
long long ivg_file_number(const char *path);
/* Where a program lies that is named without a folder, by $PATH; else `path` is the name itself. */
void ivg_in_path_find(const char *name, char path[PATH_MAX]);
/* Each line of the kernel's log and of the system's log files, as far as they may be read and at most their last MiBs.
 * How many logs could be read. */
unsigned int ivg_logs_read(struct ivg_doctor *doctor, void (*line)(const char *text, void *argument), void *argument);
/* What user and group are called, or their number. */
void ivg_user_name(uid_t uid, char name[64]);
void ivg_group_name(gid_t gid, char name[64]);

/* ---- processes.c ---- */

struct ivg_process_view {
        pid_t pid;
        char state; /* as in /proc/PID/stat: 'T' is stopped */
        char name[64];
        uid_t uid;
        gid_t gid;
        char *arguments[256]; /* end with NULL */
        unsigned int argument_count;
        char text[65536];
};
/* Calls `look` for each process, until it answers true. */
void ivg_processes_look(struct ivg_doctor *doctor, bool (*look)(struct ivg_process_view *process, void *argument),
                        void *argument);

struct ivg_socket_view {   /* of a path, by /proc/net/unix */
        uint64_t listener; /* inode; 0: nobody listens */
        unsigned int connected;
};
/* -errno: the table cannot be read. */
int ivg_socket_look(struct ivg_doctor *doctor, const char *path, struct ivg_socket_view *view);
/* The mediator: by its control socket, a VM's, or its configuration on its command line. 0: none is to be seen.
 * `state`: of the process. */
pid_t ivg_mediator_process(struct ivg_doctor *doctor, char *state);

/* ---- child.c ---- */

struct ivg_child {
        int status; /* as of waitpid(); -1: it was killed for its time, or never ran */
        bool timed_out;
        char output[IVG_DOCTOR_OUTPUT_BYTES]; /* what it wrote to stderr, and to stdout where a program was run */
};
/* Runs `body` in a child that may crash, hang, or load a stranger's library. What it is to tell lies in memory that
 * both share (ivg_shared_new). */
void ivg_child_call(void (*body)(void *argument), void *argument, unsigned int limit_ms, struct ivg_child *child);
/* Runs a program with stdin from nowhere. `variables` ("NAME=VALUE", end with NULL) are added to its environment. */
void ivg_child_program(char *const arguments[], char *const variables[], unsigned int limit_ms,
                       struct ivg_child *child);
void *ivg_shared_new(size_t bytes); /* zero; NULL: no memory */

/* Whether a user may reach a file: every folder on the way to be entered, then `access_mode` of the file. 0, or -errno
 * with the folder or file that refuses in `where`. -ENOTSUP: only root can try it for somebody else. */
int ivg_user_reaches(const char *user, const char *path, int access_mode, char where[PATH_MAX]);

/* ---- learn.c ---- */

#define IVG_CONFIG_STANDARD "/etc/ivgpu/ivgpud.conf"
const struct ivg_config *ivg_learn_config(struct ivg_doctor *doctor); /* NULL: words in config_words */
const char *ivg_config_place(const struct ivg_doctor *doctor);
struct json_object *ivg_learn_list(struct ivg_doctor *doctor); /* NULL: list_rc, list_words */
const char *ivg_control_place(struct ivg_doctor *doctor);
const char *ivg_local_place(struct ivg_doctor *doctor); /* NULL: local programs are not configured */
/* VMs of the configuration that were asked for, one after the other; NULL: no more. `name`: "VM 7 (web)". */
const struct ivg_vm_config *ivg_next_vm(struct ivg_doctor *doctor, const struct ivg_vm_config *after, char name[64]);

/* ---- the checks ---- */

void ivg_check_configuration(struct ivg_doctor *doctor);
void ivg_check_mediator(struct ivg_doctor *doctor);
void ivg_check_state(struct ivg_doctor *doctor);
void ivg_check_socket(struct ivg_doctor *doctor);
void ivg_check_denials(struct ivg_doctor *doctor);
void ivg_check_emulator(struct ivg_doctor *doctor);
void ivg_check_qemu(struct ivg_doctor *doctor);
void ivg_check_region(struct ivg_doctor *doctor);
void ivg_check_driver(struct ivg_doctor *doctor);
void ivg_check_sharing(struct ivg_doctor *doctor);
void ivg_check_device(struct ivg_doctor *doctor);
void ivg_check_module(struct ivg_doctor *doctor);
void ivg_check_node(struct ivg_doctor *doctor);
void ivg_check_channels(struct ivg_doctor *doctor);
void ivg_check_loader(struct ivg_doctor *doctor);
void ivg_check_shim(struct ivg_doctor *doctor);
void ivg_check_executor(struct ivg_doctor *doctor);
void ivg_check_gpu(struct ivg_doctor *doctor);
void ivg_check_roundtrip(struct ivg_doctor *doctor);
void ivg_check_kernel(struct ivg_doctor *doctor);
void ivg_check_copies(struct ivg_doctor *doctor);

#endif
