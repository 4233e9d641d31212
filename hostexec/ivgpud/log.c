#include "log.h"
#include "manager.h"
#include "mediator.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024u
#define FIELDS_MAX 12
#define FIELD_BYTES 96u
#define NOBODY (IVG_VMS_MAX + 1u) /* after the VMs' slots and the local programs' */

struct event {
        const char *name, *id;
        enum ivg_log_level level;
};
#define EVENT_ROW(event_name, event_id, event_level, meaning) {#event_name, event_id, IVG_LOG_##event_level},
static const struct event events[IVG_LOG_EVENT_COUNT] = {IVG_LOG_EVENTS(EVENT_ROW)};

static const struct {
        const char *word, *color;
        int priority;
} levels[] = {
        [IVG_LOG_ERROR] = {"ERROR: ", "\033[31m", LOG_ERR},
        [IVG_LOG_WARNING] = {"WARNING: ", "\033[33m", LOG_WARNING},
        [IVG_LOG_INFO] = {"", "", LOG_INFO},
};

static enum ivg_log_level shown_level = IVG_LOG_INFO;
static const struct ivg_systemd *journal; /* NULL: text on stderr */
static bool colored;

/* ---- whom it is about ---- */

struct ivg_log_about ivg_about_member(const struct ivg_member *member)
{
        return (struct ivg_log_about){.member = member};
}

struct ivg_log_about ivg_about_channel(const struct ivg_channel *channel, enum ivg_error_code error)
{
        return (struct ivg_log_about){.member = channel->tenant->member,
                                      .channel = channel,
                                      .executor = channel->executor ? channel->executor->pid : 0,
                                      .error = error};
}

struct ivg_log_about ivg_about_executor(const struct ivg_executor *executor)
{
        if (executor->channel)
                return ivg_about_channel(executor->channel, IVG_ERROR_NONE);
        return (struct ivg_log_about){.executor = executor->pid};
}

/* ---- how many ---- */

/* Of each event and member: since when its window runs, how many lines were shown in it, and how many were not. */
static struct window {
        uint64_t begin_ms;
        uint32_t shown, hidden;
} windows[IVG_LOG_EVENT_COUNT][NOBODY + 1u];
static bool any_hidden;

static bool permit(enum ivg_log_event event, const struct ivg_member *member)
{
        struct window *window = &windows[event][member ? member->slot : NOBODY];
        const uint64_t now_ms = ivg_loop_now_ms();

        if (window->hidden == 0 && now_ms - window->begin_ms >= IVG_LOG_WINDOW_MS)
                *window = (struct window){.begin_ms = now_ms};
        if (window->shown < IVG_LOG_BURST) {
                window->shown++;
                return true;
        }
        window->hidden++;
        any_hidden = true;
        return false;
}

/* ---- text ---- */

static void write_text(enum ivg_log_level level, const char *text)
{
        char line[LINE_BYTES + 128];
        struct timespec now;
        struct tm parts;
        size_t used;
        int bytes;

        clock_gettime(CLOCK_REALTIME, &now);
        localtime_r(&now.tv_sec, &parts);
        used = strftime(line, sizeof(line), "%F %T", &parts);
        bytes = snprintf(line + used, sizeof(line) - used, ".%03ld ivgpud: %s%s%s%s\n", now.tv_nsec / 1000000,
                         colored ? levels[level].color : "", levels[level].word, text,
                         colored && levels[level].color[0] ? "\033[0m" : "");
        /* Nothing helps when stderr is gone. */
        if (write(STDERR_FILENO, line, used + (size_t)bytes) < 0)
                return;
}

/* ---- the journal ---- */

struct entry {
        struct iovec fields[FIELDS_MAX];
        char bytes[FIELDS_MAX][FIELD_BYTES];
        int count;
};

static void entry_add(struct entry *entry, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void entry_add(struct entry *entry, const char *format, ...)
{
        char *bytes = entry->bytes[entry->count];
        va_list arguments;
        int length;

        va_start(arguments, format);
        length = vsnprintf(bytes, FIELD_BYTES, format, arguments);
        va_end(arguments);
        if (length >= (int)FIELD_BYTES)
                length = FIELD_BYTES - 1; /* a name that long is cut */
        entry->fields[entry->count++] = (struct iovec){.iov_base = bytes, .iov_len = (size_t)length};
}

static int write_journal(enum ivg_log_level level, enum ivg_log_event event, const struct ivg_log_about *about,
                         const struct iovec *message)
{
        const struct ivg_member *member = about->member;
        struct entry entry = {.count = 0};

        entry.fields[entry.count++] = *message;
        entry_add(&entry, "PRIORITY=%d", levels[level].priority);
        entry_add(&entry, "SYSLOG_IDENTIFIER=ivgpud");
        entry_add(&entry, "MESSAGE_ID=%s", events[event].id);
        entry_add(&entry, "IVGPU_EVENT=%s", events[event].name);
        if (member && member->slot < IVG_VMS_MAX) {
                const struct ivg_vm_config *vm = &member->mediator->config.vms[member->slot];

                entry_add(&entry, "IVGPU_VM=%u", vm->vm_id);
                entry_add(&entry, "IVGPU_VM_NAME=%s", vm->name);
        } else if (member) {
                entry_add(&entry, "IVGPU_VM=local");
        }
        if (about->channel)
                entry_add(&entry, "IVGPU_CHANNEL=%u", about->channel->index);
        if (about->executor > 0)
                entry_add(&entry, "IVGPU_EXECUTOR=%d", (int)about->executor);
        if (about->error != IVG_ERROR_NONE)
                entry_add(&entry, "IVGPU_ERROR=%d", (int)about->error);
        return journal->journal_sendv(entry.fields, entry.count);
}

/* ---- both ---- */

static bool is_shown(enum ivg_log_level level, const struct ivg_log_about *about)
{
        return level <= shown_level && (!about->member || level <= about->member->limits->log_level);
}

/* `message` begins with "MESSAGE=". */
static void put(enum ivg_log_level level, enum ivg_log_event event, const struct ivg_log_about *about, char *message)
{
        static const char key[] = "MESSAGE=";
        const struct iovec field = {.iov_base = message, .iov_len = strlen(message)};

        /* What the journal does not take is not lost for who reads stderr. */
        if (!journal || write_journal(level, event, about, &field) < 0)
                write_text(level, message + sizeof(key) - 1);
}

void ivg_log_at(enum ivg_log_level level, enum ivg_log_event event, struct ivg_log_about about, const char *text)
{
        char message[LINE_BYTES];

        if (!is_shown(level, &about) || !permit(event, about.member))
                return;
        snprintf(message, sizeof(message), "MESSAGE=%s", text);
        put(level, event, &about, message);
}

void ivg_log(enum ivg_log_event event, struct ivg_log_about about, const char *format, ...)
{
        const enum ivg_log_level level = events[event].level;
        char message[LINE_BYTES] = "MESSAGE=";
        const size_t used = strlen(message);
        va_list arguments;

        if (!is_shown(level, &about) || !permit(event, about.member))
                return;
        va_start(arguments, format);
        vsnprintf(message + used, sizeof(message) - used, format, arguments);
        va_end(arguments);
        put(level, event, &about, message);
}

void ivg_log_block(enum ivg_log_event event, char *message)
{
        if (events[event].level <= shown_level)
                put(events[event].level, event, &IVG_ABOUT_NOBODY, message);
}

uint64_t ivg_log_tick(struct ivg_mediator *mediator, uint64_t now_ms)
{
        uint64_t next_ms = UINT64_MAX;

        if (!any_hidden)
                return next_ms;
        for (uint32_t event = 0; event < IVG_LOG_EVENT_COUNT; event++) {
                for (uint32_t slot = 0; slot <= NOBODY; slot++) {
                        struct window *window = &windows[event][slot];
                        const struct ivg_member *member = slot < IVG_VMS_MAX    ? &mediator->vms[slot].member
                                                          : slot == IVG_VMS_MAX ? &mediator->local.member
                                                                                : NULL;
                        const uint32_t hidden = window->hidden;

                        if (hidden == 0)
                                continue;
                        if (now_ms - window->begin_ms < IVG_LOG_WINDOW_MS) {
                                if (window->begin_ms + IVG_LOG_WINDOW_MS < next_ms)
                                        next_ms = window->begin_ms + IVG_LOG_WINDOW_MS;
                                continue;
                        }
                        *window = (struct window){0};
                        ivg_log(IVG_EVENT_SUPPRESSED, ivg_about_member(member),
                                "[LOG] %s: %u more lines of %s were not shown", member ? member->name : "ivgpud",
                                hidden, events[event].name);
                }
        }
        any_hidden = next_ms != UINT64_MAX;
        return next_ms;
}

/* ---- setup ---- */

/* systemd says which file stderr is when it is the journal's: "DEVICE:INODE". */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat status;

        return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
               (unsigned long long)status.st_dev == device && (unsigned long long)status.st_ino == inode;
}

int ivg_log_setup(enum ivg_log_level shown, enum ivg_log_form form, struct ivg_error *error)
{
        shown_level = shown;
        colored = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
        if (form == IVG_LOG_TEXT || (form == IVG_LOG_AUTO && !stderr_is_journal()))
                return 0;
        journal = ivg_manager_library(error);
        if (journal)
                return 0;
        ivg_error_prefix(error, "no way to the journal");
        return -ELIBACC;
}

bool ivg_log_is_journal(void)
{
        return journal != NULL;
}
