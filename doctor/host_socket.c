/* Each VM's socket, as its QEMU meets it; and what AppArmor and SELinux have refused. */
#include "doctor.h"
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- who is to connect ---- */

struct user_search {
        const char *socket;
        uid_t uid;
};

static bool user_look(struct ivg_process_view *process, void *argument)
{
        struct user_search *search = argument;

        for (unsigned int i = 1; i < process->argument_count; i++)
                if (strcmp(process->arguments[i - 1], "-chardev") == 0 &&
                    strstr(process->arguments[i], search->socket)) {
                        search->uid = process->uid;
                        return true;
                }
        return false;
}

/* QEMU's user: as told, that of the one which runs with this socket, or the distribution's; empty: not known. */
static void qemu_user_find(struct ivg_doctor *doctor, const char *socket, char name[64])
{
        static const char *const usual[] = {"libvirt-qemu", "qemu"};
        struct user_search search = {.socket = socket, .uid = (uid_t)-1};

        name[0] = '\0';
        if (doctor->qemu_user) {
                snprintf(name, 64, "%s", doctor->qemu_user);
                return;
        }
        ivg_processes_look(doctor, user_look, &search);
        if (search.uid != (uid_t)-1)
                ivg_user_name(search.uid, name);
        for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]) && name[0] == '\0'; i++)
                if (getpwnam(usual[i]))
                        snprintf(name, 64, "%s", usual[i]);
}

/* What lets `user` in, least first: the group that already may, or a wider mode. */
static void reach_remedy(struct ivg_doctor *doctor, const char *user, const char *where, const struct ivg_vm_config *vm)
{
        const bool is_socket = strcmp(where, vm->socket) == 0;
        struct stat status = {0};
        char group[64];

        if (stat(where, &status) < 0) {
                ivg_remedy(doctor, "let %s enter %s", user, where);
                return;
        }
        ivg_group_name(status.st_gid, group);
        if (status.st_gid != 0 && (status.st_mode & (is_socket ? S_IWGRP : S_IXGRP)))
                ivg_remedy(doctor, "usermod -aG %s %s, then start the VM again", group, user);
        else if (is_socket && status.st_gid != 0)
                ivg_remedy(doctor,
                           "set socket_mode = \"0660\" for this VM in %s, then: ivgpuctl reload; usermod -aG %s %s",
                           ivg_config_place(doctor), group, user);
        else if (is_socket)
                ivg_remedy(doctor,
                           "run ivgpud with a group that %s is in, or set socket_mode = \"0666\" for this VM in %s "
                           "and guard the folder; then: ivgpuctl reload",
                           user, ivg_config_place(doctor));
        else
                ivg_remedy(doctor, "chmod o+x %s (to enter, not to list it)", where);
}

static void reach_judge(struct ivg_doctor *doctor, const struct ivg_vm_config *vm, const char *name)
{
        char user[64], where[PATH_MAX], owner[64], group[64];
        struct stat status = {0};
        int rc;

        qemu_user_find(doctor, vm->socket, user);
        stat(vm->socket, &status);
        ivg_user_name(status.st_uid, owner);
        ivg_group_name(status.st_gid, group);
        if (user[0] == '\0') {
                ivg_seen(doctor, "%s (%s:%s, mode %04o) listens; which user QEMU runs as is not known", vm->socket,
                         owner, group, status.st_mode & 07777);
                ivg_remedy(doctor, "ask for one: --qemu-user NAME");
                ivg_conclude(doctor, IVG_OK, NULL, name);
                return;
        }
        rc = ivg_user_reaches(user, vm->socket, R_OK | W_OK, where);
        if (rc == 0) {
                ivg_seen(doctor, "%s (%s:%s, mode %04o) listens, and lets %s in", vm->socket, owner, group,
                         status.st_mode & 07777, user);
                ivg_conclude(doctor, IVG_OK, NULL, name);
        } else if (rc == -ESRCH) {
                ivg_seen(doctor, "there is no user %s", user);
                ivg_remedy(doctor, "name QEMU's user: --qemu-user NAME");
                ivg_conclude(doctor, IVG_BAD, "qemu-user-absent", name);
        } else if (rc == -EACCES) {
                stat(where, &status);
                ivg_user_name(status.st_uid, owner);
                ivg_group_name(status.st_gid, group);
                reach_remedy(doctor, user, where, vm);
                ivg_seen(doctor, "user %s cannot %s %s (%s:%s, mode %04o)", user,
                         strcmp(where, vm->socket) == 0 ? "connect to" : "enter", where, owner, group,
                         status.st_mode & 07777);
                ivg_conclude(doctor, IVG_BAD,
                             strcmp(where, vm->socket) == 0 ? "socket-permission" : "socket-folder-permission", name);
        } else {
                ivg_seen(doctor, "%s listens; whether %s may connect was not tried: %s", vm->socket, user,
                         strerror(-rc));
                ivg_remedy(doctor, "run ivgpu-doctor as root");
                ivg_conclude(doctor, IVG_UNKNOWN, NULL, name);
        }
}

/* ---- the socket ---- */

static void socket_judge(struct ivg_doctor *doctor, const struct ivg_vm_config *vm, const char *name)
{
        struct ivg_socket_view view;
        struct stat status;

        if (lstat(vm->socket, &status) < 0) {
                const int rc = errno;

                ivg_seen(doctor, "%s: %s", vm->socket, strerror(rc));
                if (rc == EACCES) {
                        ivg_remedy(doctor, "run ivgpu-doctor as root");
                        ivg_conclude(doctor, IVG_UNKNOWN, NULL, name);
                        return;
                }
                ivg_remedy(doctor, ivg_mediator_process(doctor, NULL) != 0
                                           ? "the running ivgpud does not serve it: ivgpuctl reload"
                                           : "start ivgpud (see \"mediator\"), then the VM");
                ivg_conclude(doctor, IVG_BAD, "socket-absent", name);
        } else if (!S_ISSOCK(status.st_mode)) {
                ivg_seen(doctor, "%s is no socket", vm->socket);
                ivg_remedy(doctor, "move that file away, then: systemctl restart ivgpud");
                ivg_conclude(doctor, IVG_BAD, "socket-is-none", name);
        } else if (ivg_socket_look(doctor, vm->socket, &view) < 0 || view.listener == 0) {
                ivg_seen(doctor, "%s is there and nobody listens: its ivgpud has died (QEMU says: Connection refused)",
                         vm->socket);
                ivg_remedy(doctor, "systemctl restart ivgpud (it replaces the file), then start the VM");
                ivg_conclude(doctor, IVG_BAD, "socket-stale", name);
        } else {
                reach_judge(doctor, vm, name);
        }
}

void ivg_check_socket(struct ivg_doctor *doctor)
{
        const struct ivg_vm_config *vm = NULL;
        unsigned int looked = 0;
        char name[64];

        while ((vm = ivg_next_vm(doctor, vm, name)) != NULL)
                if (vm->socket[0] != '\0') {
                        socket_judge(doctor, vm, name);
                        looked++;
                }
        if (looked > 0)
                return;
        ivg_seen(doctor, "no VM with a socket is configured");
        ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
}

/* ---- denials ---- */

#define DENIALS_KEPT 256u /* the latest: a VM that tries again and again makes a few a second */
#define DENIAL_BYTES 512u

struct denials {
        unsigned int count; /* of all that the logs have */
        char lines[DENIALS_KEPT][DENIAL_BYTES];
};

static bool is_apparmors(const char *line)
{
        return strstr(line, "apparmor=\"DENIED\"") != NULL;
}

static void denial_keep(const char *line, void *argument)
{
        struct denials *denials = argument;

        if (is_apparmors(line) || (strstr(line, "avc:") && strstr(line, "denied")))
                snprintf(denials->lines[denials->count++ % DENIALS_KEPT], DENIAL_BYTES, "%s", line);
}

/* By its path, or, as SELinux often has it, by its last name alone. `vm`: NULL for ivgpu's own processes. */
static bool mentions(const char *line, const struct ivg_vm_config *vm)
{
        char name[IVG_SOCKET_PATH_BYTES + 16];
        const char *slash;

        if (!vm)
                return strstr(line, "comm=\"ivgpu") != NULL;
        slash = strrchr(vm->socket, '/');
        snprintf(name, sizeof(name), "name=\"%s\"", slash ? slash + 1 : vm->socket);
        return strstr(line, vm->socket) != NULL || strstr(line, name) != NULL;
}

/* The value of NAME="VALUE" in a line of the log. */
static void field_get(const char *line, const char *name, char *value, size_t bytes)
{
        const char *at = strstr(line, name);

        value[0] = '\0';
        if (!at)
                return;
        at += strlen(name);
        snprintf(value, bytes, "%.*s", (int)strcspn(at, "\""), at);
}

/* True: there are some that concern it, and that is told. */
static bool denials_judge(struct ivg_doctor *doctor, const struct denials *denials, const struct ivg_vm_config *vm,
                          const char *object)
{
        const unsigned int first = denials->count > DENIALS_KEPT ? denials->count - DENIALS_KEPT : 0;
        char profile[128], refused[256];
        const char *last = NULL;
        unsigned int count = 0;

        for (unsigned int i = first; i < denials->count; i++)
                if (mentions(denials->lines[i % DENIALS_KEPT], vm)) {
                        last = denials->lines[i % DENIALS_KEPT];
                        count++;
                }
        if (!last)
                return false;
        field_get(last, "profile=\"", profile, sizeof(profile));
        field_get(last, "name=\"", refused, sizeof(refused));
        ivg_seen(doctor, "%u refusals in the log, the last: %.300s", count, last);
        if (!is_apparmors(last))
                ivg_remedy(
                        doctor,
                        "ausearch -m avc -ts recent | audit2allow -M ivgpu && semodule -i ivgpu.pp, then start the VM "
                        "again (\"setenforce 0\" would only hide it)");
        else if (strncmp(profile, "libvirt-", 8) == 0)
                ivg_remedy(
                        doctor,
                        "echo '\"%s\" rw,' >> /etc/apparmor.d/local/abstractions/libvirt-qemu, then start the VM again "
                        "(libvirt loads its profile with it)",
                        refused);
        else
                ivg_remedy(
                        doctor,
                        "add the line  \"%s\" rw,  to the profile %s (/etc/apparmor.d/local/), then: systemctl reload "
                        "apparmor",
                        refused, profile);
        ivg_conclude(doctor, IVG_BAD, is_apparmors(last) ? "apparmor-denies" : "selinux-denies", object);
        return true;
}

void ivg_check_denials(struct ivg_doctor *doctor)
{
        static struct denials denials;
        char path[PATH_MAX], apparmor[16], name[64];
        const struct ivg_vm_config *vm = NULL;
        struct ivg_socket_view view;
        unsigned int logs;
        long long selinux;
        bool found;

        logs = ivg_logs_read(doctor, denial_keep, &denials);
        found = denials_judge(doctor, &denials, NULL, "ivgpu's own processes");
        while ((vm = ivg_next_vm(doctor, vm, name)) != NULL)
                /* What stands in the log of a VM that is connected now is over. */
                if (vm->socket[0] != '\0' && (ivg_socket_look(doctor, vm->socket, &view) < 0 || view.connected == 0))
                        found |= denials_judge(doctor, &denials, vm, name);
        if (found)
                return;
        if (logs == 0) {
                ivg_seen(doctor, "no log of the kernel may be read");
                ivg_remedy(doctor, "run ivgpu-doctor as root");
                ivg_conclude(doctor, IVG_UNKNOWN, NULL, "");
                return;
        }
        ivg_system_path(doctor, path, "/sys/module/apparmor/parameters/enabled");
        ivg_file_line(path, apparmor, sizeof(apparmor));
        ivg_system_path(doctor, path, "/sys/fs/selinux/enforce");
        selinux = ivg_file_number(path);
        ivg_seen(doctor, "none in %u logs (AppArmor %s, SELinux %s)", logs, apparmor[0] == 'Y' ? "on" : "off",
                 selinux == 1   ? "enforcing"
                 : selinux == 0 ? "permissive"
                                : "off");
        ivg_conclude(doctor, IVG_OK, NULL, "");
}
