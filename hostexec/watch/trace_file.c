#include "trace_file.h"
#include "call_print.h"
#include <inttypes.h>
#include <string.h>

#define CALL_TEXT_BYTES 512

static const char *const place_names[IVG_TRACE_PLACES] = {
        [IVG_TRACE_CONSUMER] = "consumer", [IVG_TRACE_LANE] = "lane", [IVG_TRACE_REAPER] = "reaper"};

static void text(FILE *out, const char *words)
{
        fputc('"', out);
        for (; *words; words++) {
                if (*words == '"' || *words == '\\')
                        fputc('\\', out);
                fputc((unsigned char)*words < ' ' ? '?' : *words, out);
        }
        fputc('"', out);
}

static void event_begin(struct ivg_trace_file *file, const char *phase, uint32_t pid, uint32_t tid)
{
        fprintf(file->out, "%s{\"ph\":\"%s\",\"pid\":%u,\"tid\":%u", file->begun ? ",\n" : "\n", phase, pid, tid);
        file->begun = true;
}

/* Microseconds since the trace began, to the nanosecond; an executor's clock is ours, what it says need not be. */
static void time_member(struct ivg_trace_file *file, const char *name, uint64_t ns)
{
        fprintf(file->out, ",\"%s\":%" PRIu64 ".%03u", name, ns / 1000, (unsigned int)(ns % 1000));
}

static uint64_t since(uint64_t begin_ns, uint64_t end_ns)
{
        return end_ns > begin_ns ? end_ns - begin_ns : 0;
}

static void name_event(struct ivg_trace_file *file, const char *what, uint32_t pid, uint32_t tid, const char *name)
{
        event_begin(file, "M", pid, tid);
        fprintf(file->out, ",\"name\":\"%s\",\"args\":{\"name\":", what);
        text(file->out, name);
        fputs("}}", file->out);
}

void ivg_trace_file_begin(struct ivg_trace_file *file, FILE *out, uint64_t base_ns)
{
        *file = (struct ivg_trace_file){.out = out, .base_ns = base_ns};
        fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", out);
}

void ivg_trace_file_process(struct ivg_trace_file *file, struct ivg_trace_track *track, const char *program,
                            const char *executor)
{
        name_event(file, "process_name", 2 * track->number + 1, 0, program);
        name_event(file, "process_name", 2 * track->number + 2, 0, executor);
        for (uint32_t i = 1; i <= 2; i++) {
                event_begin(file, "M", 2 * track->number + i, 0);
                fprintf(file->out, ",\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%u}}",
                        2 * track->number + i);
        }
}

/* The thread of the executor that an event ran on; names it at its first. */
static uint32_t executor_thread(struct ivg_trace_file *file, struct ivg_trace_track *track,
                                const struct ivg_trace_event *event)
{
        const uint32_t tid = event->place == IVG_TRACE_CONSUMER ? 1
                             : event->place == IVG_TRACE_REAPER ? 2
                                                                : IVG_TRACE_LANE_TID + event->line;
        char name[40];

        if (!track->named[tid]) {
                track->named[tid] = true;
                if (event->place == IVG_TRACE_LANE)
                        snprintf(name, sizeof(name), "lane of thread %u", track->thread_of[event->line]);
                else
                        snprintf(name, sizeof(name), "%s", place_names[event->place]);
                name_event(file, "thread_name", 2 * track->number + 2, IVG_TRACE_TID_BASE + tid, name);
        }
        return IVG_TRACE_TID_BASE + tid;
}

static void call_event(struct ivg_trace_file *file, uint32_t pid, uint32_t tid, const char *name, bool waits,
                       uint64_t begin_ns, uint64_t end_ns)
{
        event_begin(file, "X", pid, tid);
        fputs(",\"name\":", file->out);
        text(file->out, name);
        fprintf(file->out, ",\"cat\":\"%s\"", waits ? "sync" : "async");
        time_member(file, "ts", since(file->base_ns, begin_ns));
        time_member(file, "dur", since(begin_ns, end_ns));
}

/* One end of an arrow; its other end has the same number. */
static void arrow_event(struct ivg_trace_file *file, const char *phase, uint32_t pid, uint32_t tid, uint64_t ns)
{
        event_begin(file, phase, pid, tid);
        fprintf(file->out, ",\"name\":\"call\",\"cat\":\"call\",\"id\":%" PRIu64, file->arrows);
        time_member(file, "ts", since(file->base_ns, ns));
        fputs(",\"bp\":\"e\"}", file->out);
}

/* What its thread waited for: from the moment that the executor saw the call until it was answered. */
static void waited_event(struct ivg_trace_file *file, struct ivg_trace_track *track,
                         const struct ivg_trace_event *event, const char *name, uint32_t executor_tid)
{
        const uint32_t pid = 2 * track->number + 1;
        const uint32_t number = track->thread_of[event->line];
        uint64_t begin_ns = event->taken_ns;
        char thread[32];

        if (number == 0)
                return;
        if (track->thread_named[event->line] != number) {
                track->thread_named[event->line] = number;
                snprintf(thread, sizeof(thread), "thread %u", number);
                name_event(file, "thread_name", pid, number, thread);
        }
        if (begin_ns < track->answered_ns[event->line]) /* answered before that was stamped */
                begin_ns = track->answered_ns[event->line];
        if (event->end_ns < begin_ns)
                return;
        track->answered_ns[event->line] = event->end_ns;
        call_event(file, pid, number, name, true, begin_ns, event->end_ns);
        fprintf(file->out, ",\"args\":{\"position\":%" PRIu64 ",\"result\":%u}}", event->position, event->result);
        if (begin_ns > event->begin_ns)
                return;
        arrow_event(file, "s", pid, number, begin_ns);
        arrow_event(file, "f", pid + 1, executor_tid, event->begin_ns);
        file->arrows++;
}

void ivg_trace_file_call(struct ivg_trace_file *file, struct ivg_trace_track *track,
                         const struct ivg_trace_event *event)
{
        const bool waits = event->result != IVG_TRACE_NO_RESULT;
        char call[CALL_TEXT_BYTES], name[CALL_TEXT_BYTES];
        uint32_t tid;

        if (event->place >= IVG_TRACE_PLACES || event->line >= IVG_RING_PRODUCERS ||
            event->request_bytes > IVG_TRACE_REQUEST_BYTES)
                return; /* a broken executor's */
        (void)ivg_print_call(event->call, call, sizeof(call), event->request, event->request_bytes);
        memcpy(name, call, sizeof(name));
        name[strcspn(name, "(")] = '\0';
        if (event->thread != 0) /* else it has ended meanwhile, and its number is gone */
                track->thread_of[event->line] = event->thread;
        tid = executor_thread(file, track, event);
        call_event(file, 2 * track->number + 2, tid, name, waits, event->begin_ns, event->end_ns);
        fputs(",\"args\":{\"call\":", file->out);
        text(file->out, call);
        fprintf(file->out, ",\"position\":%" PRIu64 ",\"thread\":%u", event->position, track->thread_of[event->line]);
        time_member(file, "waited_us", since(event->taken_ns, event->begin_ns));
        if (waits)
                fprintf(file->out, ",\"result\":%u", event->result);
        fputs("}}", file->out);
        if (waits)
                waited_event(file, track, event, name, tid);
        file->events++;
}

void ivg_trace_file_lost(struct ivg_trace_file *file, const struct ivg_trace_track *track, uint64_t now_ns,
                         uint64_t calls)
{
        event_begin(file, "i", 2 * track->number + 2, IVG_TRACE_TID_BASE + 1);
        fprintf(file->out, ",\"name\":\"%" PRIu64 " calls are missing\",\"s\":\"p\"", calls);
        time_member(file, "ts", since(file->base_ns, now_ns));
        fprintf(file->out, ",\"args\":{\"calls\":%" PRIu64 "}}", calls);
}

bool ivg_trace_file_end(struct ivg_trace_file *file, uint64_t calls_lost, uint64_t programs_lost)
{
        fprintf(file->out,
                "\n],\"otherData\":{\"calls\":%" PRIu64 ",\"calls_lost\":%" PRIu64 ",\"programs_lost\":%" PRIu64 "}}\n",
                file->events, calls_lost, programs_lost);
        return fflush(file->out) == 0 && !ferror(file->out);
}
