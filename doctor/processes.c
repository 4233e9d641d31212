#include "doctor.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIX_TABLE_BYTES (8u << 20) /* of /proc/net/unix: some hundred thousand sockets */
#define UNIX_LISTENS 0x10000u       /* __SO_ACCEPTCON */
#define UNIX_CONNECTED 3u

static bool process_read(struct ivg_doctor *doctor, const char *number, struct ivg_process_view *process)
{
        char path[PATH_MAX], text[4096], *state;
        ssize_t bytes;

        process->pid = (pid_t)strtol(number, NULL, 10);
        ivg_system_path(doctor, path, "/proc/%s/status", number);
        if (ivg_file_read(path, text, sizeof(text)) <= 0)
                return false;
        process->uid = (uid_t)-1;
        process->gid = (gid_t)-1;
        process->state = '?';
        process->name[0] = '\0';
        sscanf(text, "Name:\t%63[^\n]", process->name);
        state = strstr(text, "\nState:\t");
        if (state)
                process->state = state[8];
        state = strstr(text, "\nUid:\t");
        if (state)
                process->uid = (uid_t)strtoul(state + 6, NULL, 10);
        state = strstr(text, "\nGid:\t");
        if (state)
                process->gid = (gid_t)strtoul(state + 6, NULL, 10);
        ivg_system_path(doctor, path, "/proc/%s/cmdline", number);
        bytes = ivg_file_read(path, process->text, sizeof(process->text));
        process->argument_count = 0;
        for (ssize_t at = 0; at < bytes && process->argument_count < 255; at += (ssize_t)strlen(process->text + at) + 1)
                process->arguments[process->argument_count++] = process->text + at;
        process->arguments[process->argument_count] = NULL;
        return true;
}

void ivg_processes_look(struct ivg_doctor *doctor, bool (*look)(struct ivg_process_view *process, void *argument),
                        void *argument)
{
        static struct ivg_process_view process;
        char path[PATH_MAX];
        const struct dirent *entry;
        DIR *entries;

        ivg_system_path(doctor, path, "/proc");
        entries = opendir(path);
        while (entries && (entry = readdir(entries)) != NULL)
                if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
                    process_read(doctor, entry->d_name, &process) && look(&process, argument))
                        break;
        if (entries)
                closedir(entries);
}

/* ---- sockets ---- */

int ivg_socket_look(struct ivg_doctor *doctor, const char *path, struct ivg_socket_view *view)
{
        char table[PATH_MAX], *text = malloc(UNIX_TABLE_BYTES), *rest = text, *line;
        ssize_t bytes;

        *view = (struct ivg_socket_view){0};
        if (!text)
                return -ENOMEM;
        ivg_system_path(doctor, table, "/proc/net/unix");
        bytes = ivg_file_read(table, text, UNIX_TABLE_BYTES);
        while (bytes > 0 && (line = strsep(&rest, "\n")) != NULL) {
                unsigned int flags, state;
                unsigned long long inode;
                int at = 0;

                if (sscanf(line, "%*x: %*x %*x %x %*x %x %llu %n", &flags, &state, &inode, &at) < 3 || at == 0 ||
                    strcmp(line + at, path) != 0)
                        continue;
                if (flags & UNIX_LISTENS)
                        view->listener = inode;
                else if (state == UNIX_CONNECTED)
                        view->connected++;
        }
        free(text);
        return bytes < 0 ? (int)bytes : 0;
}

static bool process_holds(struct ivg_doctor *doctor, pid_t pid, const char *wanted)
{
        char folder[PATH_MAX], path[PATH_MAX + 300], link[128];
        const struct dirent *entry;
        bool found = false;
        DIR *entries;

        ivg_system_path(doctor, folder, "/proc/%d/fd", (int)pid);
        entries = opendir(folder);
        while (entries && !found && (entry = readdir(entries)) != NULL) {
                ssize_t bytes;

                snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
                bytes = readlink(path, link, sizeof(link) - 1);
                if (bytes <= 0)
                        continue;
                link[bytes] = '\0';
                found = strcmp(link, wanted) == 0;
        }
        if (entries)
                closedir(entries);
        return found;
}

/* ---- the mediator's process ---- */

struct mediator_search {
        const char *config;
        pid_t pid, named; /* by what it holds; by its name and the configuration on its command line */
        char state, named_state;
        struct ivg_doctor *doctor;
        char sockets[2][64]; /* as /proc/PID/fd names them */
        unsigned int socket_count;
};

static bool mediator_look(struct ivg_process_view *process, void *argument)
{
        struct mediator_search *search = argument;

        if (strcmp(process->name, "ivgpud") != 0)
                return false;
        for (unsigned int i = 1; i < process->argument_count; i++)
                if (strstr(process->arguments[i], search->config)) {
                        search->named = process->pid;
                        search->named_state = process->state;
                }
        for (unsigned int i = 0; i < search->socket_count; i++)
                if (process_holds(search->doctor, process->pid, search->sockets[i])) {
                        search->pid = process->pid;
                        search->state = process->state;
                        return true;
                }
        return false;
}

static void mediator_search_add(struct mediator_search *search, const char *path)
{
        struct ivg_socket_view view;

        if (!path || path[0] == '\0' || search->socket_count == 2 || ivg_socket_look(search->doctor, path, &view) < 0 ||
            view.listener == 0)
                return;
        snprintf(search->sockets[search->socket_count++], sizeof(search->sockets[0]), "socket:[%llu]",
                 (unsigned long long)view.listener);
}

pid_t ivg_mediator_process(struct ivg_doctor *doctor, char *state)
{
        struct mediator_search search = {.doctor = doctor, .config = ivg_config_place(doctor)};
        char name[64];
        const struct ivg_vm_config *vm = ivg_next_vm(doctor, NULL, name);

        mediator_search_add(&search, ivg_control_place(doctor));
        mediator_search_add(&search, vm ? vm->socket : NULL);
        ivg_processes_look(doctor, mediator_look, &search);
        if (search.pid == 0) {
                search.pid = search.named;
                search.state = search.named_state;
        }
        if (state)
                *state = search.state;
        return search.pid;
}
