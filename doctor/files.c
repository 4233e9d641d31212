#include "doctor.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_BYTES_MAX (4u << 20) /* the end of each log: hours of a busy machine */
#define KLOG_READ_ALL 3
#define KLOG_SIZE_BUFFER 10

void ivg_system_path(const struct ivg_doctor *doctor, char path[PATH_MAX], const char *format, ...)
{
        const int used = snprintf(path, PATH_MAX, "%s", doctor->root);
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(path + used, PATH_MAX - (size_t)used, format, arguments);
        va_end(arguments);
}

ssize_t ivg_file_read(const char *path, char *text, size_t bytes)
{
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        size_t used = 0;
        ssize_t got = 0;

        text[0] = '\0';
        if (fd < 0)
                return -errno;
        while (used < bytes - 1 && (got = read(fd, text + used, bytes - 1 - used)) > 0)
                used += (size_t)got;
        got = got < 0 ? -errno : 0;
        close(fd);
        text[used] = '\0';
        return used > 0 ? (ssize_t)used : got;
}

void ivg_file_line(const char *path, char *text, size_t bytes)
{
        if (ivg_file_read(path, text, bytes) > 0)
                text[strcspn(text, "\n")] = '\0';
        else
                text[0] = '\0';
}

long long ivg_file_number(const char *path)
{
        char text[64], *end;
        long long number;

        ivg_file_line(path, text, sizeof(text));
        number = strtoll(text, &end, 0);
        return end == text ? -1 : number;
}

void ivg_in_path_find(const char *name, char path[PATH_MAX])
{
        const char *folders = getenv("PATH");

        snprintf(path, PATH_MAX, "%s", name);
        for (const char *at = folders ? folders : ""; *at && !strchr(name, '/');) {
                const size_t bytes = strcspn(at, ":");

                snprintf(path, PATH_MAX, "%.*s/%s", (int)bytes, at, name);
                if (access(path, X_OK) == 0)
                        return;
                snprintf(path, PATH_MAX, "%s", name);
                at += bytes + (at[bytes] == ':');
        }
}

/* ---- logs ---- */

static void lines_each(char *text, void (*line)(const char *text, void *argument), void *argument)
{
        char *rest = text, *one;

        while ((one = strsep(&rest, "\n")) != NULL)
                line(one, argument);
}

static bool log_read(const char *path, char *text, void (*line)(const char *text, void *argument), void *argument)
{
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat status;
        ssize_t bytes = -1;

        if (fd < 0)
                return false;
        if (fstat(fd, &status) == 0)
                bytes = pread(fd, text, LOG_BYTES_MAX,
                              status.st_size > (off_t)LOG_BYTES_MAX ? status.st_size - (off_t)LOG_BYTES_MAX : 0);
        close(fd);
        if (bytes < 0)
                return false;
        text[bytes] = '\0';
        lines_each(text, line, argument);
        return true;
}

unsigned int ivg_logs_read(struct ivg_doctor *doctor, void (*line)(const char *text, void *argument), void *argument)
{
        static const char *const places[] = {"/var/log/audit/audit.log", "/var/log/kern.log", "/var/log/syslog",
                                             "/var/log/messages"};
        char *text = malloc(LOG_BYTES_MAX + 1);
        unsigned int logs = 0;
        int bytes;

        if (!text)
                return 0;
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
                char path[PATH_MAX];

                ivg_system_path(doctor, path, "%s", places[i]);
                logs += log_read(path, text, line, argument);
        }
        if (doctor->root[0] == '\0' && (bytes = klogctl(KLOG_SIZE_BUFFER, NULL, 0)) > 0) {
                bytes = klogctl(KLOG_READ_ALL, text, bytes < (int)LOG_BYTES_MAX ? bytes : (int)LOG_BYTES_MAX);
                if (bytes >= 0) {
                        text[bytes] = '\0';
                        lines_each(text, line, argument);
                        logs++;
                }
        }
        free(text);
        return logs;
}

/* ---- names ---- */

void ivg_user_name(uid_t uid, char name[64])
{
        const struct passwd *entry = getpwuid(uid);

        if (entry)
                snprintf(name, 64, "%s", entry->pw_name);
        else
                snprintf(name, 64, "%u", (unsigned int)uid);
}

void ivg_group_name(gid_t gid, char name[64])
{
        const struct group *entry = getgrgid(gid);

        if (entry)
                snprintf(name, 64, "%s", entry->gr_name);
        else
                snprintf(name, 64, "%u", (unsigned int)gid);
}
