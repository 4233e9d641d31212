#include "trace_session.h"
#include "control_client.h"
#include "trace_file.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_S 10
#define READ_EVERY_MS 10 /* a ring of 32768 calls then holds 3 million a second */
#define ASK_EVERY_MS 50  /* for new programs; well within the mediator's patience */
#define SOURCES_MAX 256u /* programs at once */

struct source {
        const struct ivg_board *board; /* NULL: free place */
        struct ivg_trace_reader reader;
        struct ivg_trace_track *track;
        uint64_t executor_pid, lost_told;
        bool running;
};

struct session {
        const struct ivg_trace_options *options;
        int control_fd; /* -1: the mediator is gone */
        struct ivg_trace_file file;
        struct source sources[SOURCES_MAX];
        uint32_t programs;
        uint64_t asked_ns, calls_lost, programs_lost, programs_lost_by_mediator;
        char words[IVG_CONTROL_WORDS_BYTES];
};

static volatile sig_atomic_t told_to_end;

static void note_end(int number)
{
        (void)number;
        told_to_end = 1;
}

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- one program ---- */

static bool is_over(const struct session *session)
{
        return session->file.events >= session->options->calls_max;
}

static void source_read(struct session *session, struct source *source, bool finish)
{
        struct ivg_trace_event event;

        while (!is_over(session) && ivg_trace_read(&source->reader, &event, finish))
                ivg_trace_file_call(&session->file, source->track, &event);
        if (source->reader.lost != source->lost_told) {
                ivg_trace_file_lost(&session->file, source->track, now_ns(), source->reader.lost - source->lost_told);
                session->calls_lost += source->reader.lost - source->lost_told;
                source->lost_told = source->reader.lost;
        }
}

/* What its executor is just writing counts as missing only when there is no executor any more. */
static void source_end(struct session *session, struct source *source)
{
        source_read(session, source, !source->running);
        munmap((void *)(uintptr_t)source->board, sizeof(*source->board));
        free(source->track);
        source->board = NULL;
}

static const struct ivg_board *board_map(int fd)
{
        struct stat status;
        const struct ivg_board *board;

        if (fstat(fd, &status) < 0 || status.st_size != (off_t)sizeof(*board))
                return NULL;
        board = mmap(NULL, sizeof(*board), PROT_READ, MAP_SHARED, fd, 0);
        return board == MAP_FAILED ? NULL : board;
}

static bool source_begin(struct session *session, struct json_object *described, int fd)
{
        struct source *source = session->sources;
        char program[160], executor[160];

        while (source < session->sources + SOURCES_MAX && source->board)
                source++;
        if (source == session->sources + SOURCES_MAX)
                return false;
        *source = (struct source){.board = board_map(fd), .track = calloc(1, sizeof(*source->track)), .running = true};
        if (!source->board || !source->track) {
                if (source->board)
                        munmap((void *)(uintptr_t)source->board, sizeof(*source->board));
                free(source->track);
                source->board = NULL;
                return false;
        }
        source->reader =
                (struct ivg_trace_reader){.ring = &source->board->trace, .next = ivg_json_number(described, "first")};
        source->executor_pid = ivg_json_number(described, "executor_pid");
        source->track->number = session->programs++;
        snprintf(program, sizeof(program), "%s (pid %" PRIu64 " of %s)", ivg_json_text(described, "program"),
                 ivg_json_number(described, "guest_pid"), ivg_json_text(described, "of"));
        snprintf(executor, sizeof(executor), "ivgpu-exec %" PRIu64 " (channel %" PRIu64 ")", source->executor_pid,
                 ivg_json_number(described, "channel"));
        ivg_trace_file_process(&session->file, source->track, program, executor);
        return true;
}

/* ---- the mediator ---- */

static bool is_running(struct json_object *running, uint64_t pid)
{
        for (size_t i = 0; i < ivg_json_length(running); i++)
                if (json_object_get_uint64(json_object_array_get_idx(running, i)) == pid)
                        return true;
        return false;
}

static void take_answer(struct session *session, struct ivg_control_reply *reply)
{
        struct json_object *sources = ivg_json_array(reply->answer, "sources"),
                           *running = ivg_json_array(reply->answer, "running");

        for (size_t i = 0; i < ivg_json_length(sources); i++) {
                struct json_object *described = json_object_array_get_idx(sources, i);
                const uint64_t fd = ivg_json_number(described, "fd");

                if (fd >= reply->fd_count || !source_begin(session, described, reply->fds[fd]))
                        session->programs_lost++;
        }
        for (uint32_t i = 0; i < SOURCES_MAX; i++)
                if (session->sources[i].board && !is_running(running, session->sources[i].executor_pid))
                        session->sources[i].running = false;
        session->programs_lost_by_mediator = ivg_json_number(reply->answer, "lost");
}

/* 1: there is more; 0; or -errno, IVG_TRACE_REFUSED - with words. */
static int ask(struct session *session)
{
        struct json_object *request = ivg_control_request("trace", session->options->object), *more;
        struct ivg_control_reply reply;
        int rc = ivg_control_exchange(session->control_fd, request, &reply, session->words);
        const char *refusal;

        json_object_put(request);
        if (rc < 0)
                return rc;
        refusal = ivg_control_refusal(reply.answer);
        if (refusal) {
                snprintf(session->words, sizeof(session->words), "%s", refusal);
                rc = -EACCES;
        } else {
                take_answer(session, &reply);
                rc = json_object_object_get_ex(reply.answer, "more", &more) && json_object_get_boolean(more);
        }
        ivg_control_reply_free(&reply);
        return rc;
}

/* False: the mediator is gone. */
static bool ask_all(struct session *session)
{
        int rc;

        do
                rc = ask(session);
        while (rc > 0);
        return rc == 0;
}

/* ---- the whole ---- */

static void read_all(struct session *session)
{
        for (uint32_t i = 0; i < SOURCES_MAX; i++) {
                struct source *source = &session->sources[i];

                if (!source->board)
                        continue;
                if (source->running)
                        source_read(session, source, false);
                else
                        source_end(session, source);
        }
}

/* At the calls, and now and then for new programs. False: the mediator went away. */
static bool look(struct session *session)
{
        const struct timespec pause = {.tv_nsec = READ_EVERY_MS * 1000000l};

        if (now_ns() - session->asked_ns >= ASK_EVERY_MS * 1000000ull) {
                session->asked_ns = now_ns();
                if (!ask_all(session))
                        return false;
        }
        read_all(session);
        nanosleep(&pause, NULL);
        return true;
}

/* Until it is over. False: the mediator went away. */
static bool follow(struct session *session)
{
        const uint64_t begin_ns = now_ns(), end_ns = session->options->seconds * 1000000000ull;

        while (!told_to_end && !is_over(session) && (end_ns == 0 || now_ns() - begin_ns < end_ns))
                if (!look(session))
                        return false;
        return true;
}

static enum ivg_trace_end finish(struct session *session, bool mediator_there)
{
        const struct ivg_trace_options *options = session->options;
        uint64_t programs_lost;
        bool written;

        if (mediator_there) /* programs that have just begun */
                mediator_there = ask_all(session);
        for (uint32_t i = 0; i < SOURCES_MAX; i++)
                if (session->sources[i].board) {
                        session->sources[i].running &= mediator_there;
                        source_end(session, &session->sources[i]);
                }
        programs_lost = session->programs_lost + session->programs_lost_by_mediator;
        written = ivg_trace_file_end(&session->file, session->calls_lost, programs_lost);
        fprintf(stderr, "%s: %" PRIu64 " calls of %u programs are in %s", options->name, session->file.events,
                session->programs, options->file);
        if (session->calls_lost != 0 || programs_lost != 0)
                fprintf(stderr, "; %" PRIu64 " calls and %" PRIu64 " programs are missing", session->calls_lost,
                        programs_lost);
        fputs(is_over(session) ? "; it ended at its limit\n" : "\n", stderr);
        if (!written) {
                fprintf(stderr, "%s: %s: not written to its end\n", options->name, options->file);
                return IVG_TRACE_REFUSED;
        }
        if (mediator_there || options->ready_fd >= 0)
                return IVG_TRACE_DONE;
        fprintf(stderr, "%s: the mediator at %s: %s\n", options->name, options->socket, session->words);
        return IVG_TRACE_NO_MEDIATOR;
}

static enum ivg_trace_end run(struct session *session)
{
        const struct ivg_trace_options *options = session->options;
        bool there;
        int rc;

        do
                rc = ask(session);
        while (rc > 0);
        if (rc < 0) {
                fprintf(stderr, "%s: %s\n", options->name, session->words);
                return rc == -EACCES ? IVG_TRACE_REFUSED : IVG_TRACE_NO_MEDIATOR;
        }
        if (options->ready_fd >= 0 && write(options->ready_fd, "\n", 1) != 1)
                return IVG_TRACE_REFUSED; /* whoever asked is gone */
        there = follow(session);
        /* Programs that have just begun, or have ended already: it takes them from a mediator that lives. Then that is
         * ended, and its executors make their last calls. */
        if (there && options->ready_fd >= 0) {
                there = ask_all(session);
                if (write(options->ready_fd, "\n", 1) == 1)
                        while (there && !is_over(session))
                                there = look(session);
        }
        return finish(session, there);
}

enum ivg_trace_end ivg_trace_run(const struct ivg_trace_options *options)
{
        static struct session session;
        const struct sigaction action = {.sa_handler = note_end};
        enum ivg_trace_end end;
        FILE *out;

        session.options = options;
        session.control_fd = ivg_control_connect(options->socket, ANSWER_S, session.words);
        if (session.control_fd < 0) {
                fprintf(stderr, "%s: no mediator at %s: %s\n", options->name, options->socket, session.words);
                return IVG_TRACE_NO_MEDIATOR;
        }
        out = fopen(options->file, "we");
        if (!out) {
                fprintf(stderr, "%s: %s: %s\n", options->name, options->file, strerror(errno));
                close(session.control_fd);
                return IVG_TRACE_REFUSED;
        }
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        ivg_trace_file_begin(&session.file, out, now_ns());
        end = run(&session);
        if (fclose(out) != 0 && end == IVG_TRACE_DONE)
                end = IVG_TRACE_REFUSED;
        close(session.control_fd);
        return end;
}
