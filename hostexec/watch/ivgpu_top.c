/* ivgpu-top: what pools, VMs and programs do now, by the mediator's counters. */
#include "dump.h"
#include "ivgpu/number.h"
#include "json_add.h"
#include "top_table.h"
#include <errno.h>
#include <getopt.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_S 10
#define DELAY_MS_STANDARD 1000
#define DELAY_MS_MIN 50
#define LINE_BYTES 512
#define CALLS_SHOWN 1000u /* of a channel: more than a screen holds */
#define CALLS_STEP 20u    /* characters */
#define KEY_ESCAPE 27
#define KEY_REDRAW 12 /* Control-L */
#define KEYS_AT_ONCE 64u

enum exit_status { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_NO_MEDIATOR = 3 };

static const char *socket_path = IVG_CONTROL_SOCKET_STANDARD;

static void usage(FILE *out)
{
        fputs("usage: ivgpu-top [OPTION...]\n\n"
              "Shows what pools, VMs and programs do: calls a second by where they ran, copied GB a second, GPU time, "
              "VRAM, "
              "queues.\n"
              "Asks the mediator for its counters; nobody is stopped or slowed.\n\n"
              "  --batch         plain lines, without a terminal\n"
              "  --count=N       batch: so many times; default 1\n"
              "  --delay=SECONDS between two looks; default 1, at least 0.05\n"
              "  --sort=COLUMN   calls, async, sync, lane, reaper, up, dn, GPU, share, due, VRAM, cap, queue, p99, "
              "sleeps, "
              "name\n"
              "  --filter=TEXT   only rows with TEXT in their name or pool\n"
              "  --show=WHAT     pools, vms or programs; default all\n"
              "  --socket=PATH   ivgpud's control socket; default $IVGPU_CONTROL_SOCKET, "
              "or " IVG_CONTROL_SOCKET_STANDARD "\n"
              "  --help, --version\n\n"
              "Columns, over the time between two looks: GPU %, of one GPU's time, as measured; share %, of what the "
              "pool used;\n"
              "due %, by weight among those of the same pool and priority that have programs; queue, slots that waited "
              "at the\n"
              "latest batch; p99, of a batch from its taking to its end, from one batch in 16; sleeps, of "
              "executors.\n"
              "On a terminal figures are short: up and down in bytes a second; VRAM and cap with M, G for MiB, GiB; "
              "p99 "
              "with u,\n"
              "m, s for us, ms, s.\n\n"
              "Keys: up, down, page up, page down; left, right: columns, or the ends of long calls; s and S next and "
              "previous\n"
              "sort column; / filter (Enter ends it); a all, o pools, v VMs, p programs; Enter on a program its "
              "channel's latest\n"
              "calls (for those who may change things), Escape back; Control-L draws anew; q.\n\n"
              "Exit status: 0 done; 1 refused; 2 usage; 3 no mediator there, or (batch) it went away.\n",
              out);
}

struct view {
        int fd; /* -1: not connected */
        struct ivg_top_look before;
        struct ivg_top_rows rows;
        char filter[64];
        int kind; /* -1: all */
        uint64_t delay_ms, count;
        char words[IVG_CONTROL_WORDS_BYTES]; /* why there is nothing new; empty: there is */
        /* screen */
        struct ivg_top_table table;
        size_t calls_shift; /* characters of a call that have moved out on the left */
        bool typing;
        struct json_object *calls; /* of `channel_of`; NULL: the table is shown */
        struct ivg_top_row channel_of;
};

static void view_close(struct view *view)
{
        if (view->fd >= 0)
                close(view->fd);
        view->fd = -1;
        ivg_top_look_free(&view->before);
}

/* One look, and rows if there was one before. 0, or -errno with words. */
static int view_look(struct view *view)
{
        struct ivg_top_look now;
        int rc = 0;

        if (view->fd < 0)
                view->fd = rc = ivg_control_connect(socket_path, ANSWER_S, view->words);
        if (rc >= 0)
                rc = ivg_top_look(view->fd, &now, view->words);
        if (rc < 0) {
                view_close(view);
                return rc;
        }
        view->words[0] = '\0';
        if (view->before.stats) {
                free(view->rows.rows);
                rc = ivg_top_rows_make(&view->before, &now, &view->rows);
                if (rc == 0)
                        ivg_top_rows_arrange(&view->rows, view->table.sort, view->filter, view->kind);
        }
        ivg_top_look_free(&view->before);
        view->before = now;
        return rc;
}

static void pause_ms(uint64_t ms)
{
        const struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

        nanosleep(&pause, NULL);
}

/* ---- batch ---- */

static int batch(struct view *view)
{
        char line[LINE_BYTES];
        int rc = view_look(view);

        for (uint64_t turn = 0; rc == 0 && turn < view->count; turn++) {
                pause_ms(view->delay_ms);
                rc = view_look(view);
                if (rc < 0)
                        break;
                ivg_top_row_print(NULL, line, sizeof(line));
                puts(line);
                for (uint32_t i = 0; i < view->rows.count; i++) {
                        ivg_top_row_print(&view->rows.rows[i], line, sizeof(line));
                        puts(line);
                }
                fflush(stdout);
        }
        if (rc < 0)
                fprintf(stderr, "ivgpu-top: the mediator at %s: %s\n", socket_path, view->words);
        return rc == 0 ? EXIT_DONE : rc == -EACCES ? EXIT_REFUSED : EXIT_NO_MEDIATOR;
}

/* ---- one channel's latest calls ---- */

static struct json_object *calls_of(struct view *view, const struct ivg_top_row *row)
{
        struct json_object *request = ivg_control_request("regions", NULL), *calls = NULL;
        struct ivg_region_source source;
        struct ivg_error error = {""};
        struct ivg_control_reply reply;
        const char *refusal;

        ivg_json_add_number(request, "pid", row->executor_pid);
        if (view->fd < 0 || ivg_control_exchange(view->fd, request, &reply, view->words) < 0) {
                json_object_put(request);
                view_close(view);
                return NULL;
        }
        json_object_put(request);
        refusal = ivg_control_refusal(reply.answer);
        if (!refusal && reply.fd_count == 1 && ivg_region_source_open(&source, reply.fds[0], &error) == 0) {
                calls = ivg_dump_calls(&source, (uint32_t)row->channel, CALLS_SHOWN, &error);
                ivg_region_source_close(&source);
        }
        if (reply.fd_count == 1)
                reply.fds[0] = refusal ? reply.fds[0] : -1;
        if (!calls)
                snprintf(view->words, sizeof(view->words), "%.150s", refusal ? refusal : error.text);
        ivg_control_reply_free(&reply);
        return calls;
}

/* ---- the screen ---- */

static void draw_calls(const struct view *view, int height, int width)
{
        const size_t count = ivg_json_length(view->calls), room = height > 3 ? (size_t)height - 3 : 0;
        char line[LINE_BYTES];
        size_t length;

        snprintf(line, sizeof(line), "%.90s: its channel's latest calls, the newest first", view->channel_of.name);
        mvaddnstr(0, 0, line, width);
        for (size_t i = 0; i < room && i < count; i++) {
                struct json_object *call = json_object_array_get_idx(view->calls, count - 1 - i);

                snprintf(line, sizeof(line), "%12llu thread %-8s %-5s %s",
                         (unsigned long long)ivg_json_number(call, "position"), ivg_json_text(call, "thread"),
                         strcmp(ivg_json_text(call, "sync"), "true") == 0 ? "sync" : "async",
                         ivg_json_text(call, "text"));
                length = strlen(line);
                mvaddnstr((int)i + 2, 0, line + (view->calls_shift < length ? view->calls_shift : length), width);
        }
}

static void draw_head(const struct view *view, int width)
{
        uint32_t counts[] = {[IVG_TOP_POOL] = 0, [IVG_TOP_MEMBER] = 0, [IVG_TOP_PROGRAM] = 0};
        const time_t now = time(NULL);
        struct tm parts = {0};
        char line[LINE_BYTES], clock[16];

        for (uint32_t i = 0; i < view->rows.count; i++)
                counts[view->rows.rows[i].kind] += strcmp(view->rows.rows[i].name, "local") != 0; /* no VM */
        localtime_r(&now, &parts);
        strftime(clock, sizeof(clock), "%H:%M:%S", &parts);
        snprintf(line, sizeof(line), "ivgpu-top %s  %u pools, %u VMs, %u programs  sort: %s  filter: %s%s  %s", clock,
                 counts[IVG_TOP_POOL], counts[IVG_TOP_MEMBER], counts[IVG_TOP_PROGRAM],
                 view->table.sort < IVG_TOP_COLUMNS ? ivg_top_titles[view->table.sort] : "name",
                 view->filter[0] || view->typing ? view->filter : "none", view->typing ? "_" : "", view->words);
        mvaddnstr(0, 0, line, width);
}

static void draw(struct view *view)
{
        int height, width;

        getmaxyx(stdscr, height, width);
        erase();
        if (view->calls) {
                draw_calls(view, height, width);
        } else {
                draw_head(view, width);
                ivg_top_table_draw(&view->table, &view->rows, 1, height - 2, width);
        }
        if (height > 3) {
                attron(A_DIM);
                mvaddnstr(height - 1, 0,
                          view->calls
                                  ? "Escape back  left, right: the ends of long lines  q quit"
                                  : "a all  o pools  v VMs  p programs  s sort  / filter  left, right  Enter calls  "
                                    "q quit",
                          width);
                attroff(A_DIM);
        }
        refresh();
}

static void type(struct view *view, int key)
{
        const size_t length = strlen(view->filter);

        if (key == '\n' || key == KEY_ENTER || key == KEY_ESCAPE)
                view->typing = false;
        else if ((key == KEY_BACKSPACE || key == 127) && length > 0)
                view->filter[length - 1] = '\0';
        else if (key >= ' ' && key <= '~' && length + 1 < sizeof(view->filter)) {
                view->filter[length] = (char)key;
                view->filter[length + 1] = '\0';
        }
}

/* False: the end. */
static bool press(struct view *view, int key)
{
        const uint32_t page = LINES > 4 ? (uint32_t)LINES - 3 : 1;

        if (view->typing) {
                type(view, key);
                return true;
        }
        switch (key) {
        case 'q':
                return false;
        case KEY_ESCAPE:
                json_object_put(view->calls);
                view->calls = NULL;
                break;
        case KEY_REDRAW:
                clearok(stdscr, TRUE);
                break;
        case KEY_LEFT:
                if (view->calls)
                        view->calls_shift -= view->calls_shift >= CALLS_STEP ? CALLS_STEP : view->calls_shift;
                else
                        view->table.shift -= view->table.shift > 0;
                break;
        case KEY_RIGHT:
                if (view->calls)
                        view->calls_shift += view->calls_shift < LINE_BYTES ? CALLS_STEP : 0;
                else
                        view->table.shift++;
                break;
        case KEY_UP:
                view->table.selected -= view->table.selected > 0;
                break;
        case KEY_DOWN:
                view->table.selected++;
                break;
        case KEY_PPAGE:
                view->table.selected -= view->table.selected > page ? page : view->table.selected;
                break;
        case KEY_NPAGE:
                view->table.selected += page;
                break;
        case 's':
                view->table.sort = (view->table.sort + 1) % (IVG_TOP_COLUMNS + 1);
                break;
        case 'S':
                view->table.sort = (view->table.sort + IVG_TOP_COLUMNS) % (IVG_TOP_COLUMNS + 1);
                break;
        case '/':
                view->typing = true;
                view->filter[0] = '\0';
                break;
        case 'a':
                view->kind = -1;
                break;
        case 'o':
                view->kind = IVG_TOP_POOL;
                break;
        case 'v':
                view->kind = IVG_TOP_MEMBER;
                break;
        case 'p':
                view->kind = IVG_TOP_PROGRAM;
                break;
        case '\n':
        case KEY_ENTER:
                if (!view->calls && view->table.selected < view->rows.count &&
                    view->rows.rows[view->table.selected].kind == IVG_TOP_PROGRAM) {
                        view->channel_of = view->rows.rows[view->table.selected];
                        view->calls = calls_of(view, &view->channel_of);
                        view->calls_shift = 0;
                }
                break;
        default:
                break;
        }
        return true;
}

static uint64_t now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Until the next look, or a key and those behind it: slow looks do not fall behind who types. False: the end. */
static bool wait_for_keys(struct view *view, uint64_t until_ms)
{
        const uint64_t now = now_ms();
        int key;

        timeout(until_ms > now ? (int)(until_ms - now) : 0);
        for (uint32_t keys = 0; keys < KEYS_AT_ONCE && (key = getch()) != ERR; keys++) {
                if (!press(view, key))
                        return false;
                /* Rows that a filter has dropped come back with the next look. */
                ivg_top_rows_arrange(&view->rows, view->table.sort, view->filter, view->kind);
                timeout(0);
        }
        return true;
}

static int screen(struct view *view)
{
        uint64_t next_ms = now_ms();
        bool goes_on = true;

        if (!initscr())
                return EXIT_USAGE;
        cbreak();
        noecho();
        keypad(stdscr, TRUE);
        set_escdelay(50);
        curs_set(0);
        ivg_top_colours_begin();
        while (goes_on) {
                if (now_ms() >= next_ms) {
                        (void)view_look(view);
                        next_ms = now_ms() + view->delay_ms;
                        if (view->calls) {
                                json_object_put(view->calls);
                                view->calls = calls_of(view, &view->channel_of);
                        }
                }
                draw(view);
                goes_on = wait_for_keys(view, next_ms);
        }
        endwin();
        json_object_put(view->calls);
        return EXIT_DONE;
}

/* ---- arguments ---- */

static bool sort_parse(const char *text, uint32_t *column)
{
        const size_t length = strlen(text);

        for (*column = 0; *column < IVG_TOP_COLUMNS; (*column)++)
                if (strncasecmp(text, ivg_top_titles[*column], length) == 0 &&
                    strchr(" /", ivg_top_titles[*column][length]))
                        return true;
        return strcmp(text, "name") == 0;
}

static bool kind_parse(const char *text, int *kind)
{
        static const char *const words[] = {
                [IVG_TOP_POOL] = "pools", [IVG_TOP_MEMBER] = "vms", [IVG_TOP_PROGRAM] = "programs"};

        for (*kind = IVG_TOP_PROGRAM; *kind >= 0; (*kind)--)
                if (strcmp(text, words[*kind]) == 0)
                        return true;
        return false;
}

static bool delay_parse(const char *text, uint64_t *ms)
{
        char *end;
        const double seconds = strtod(text, &end);

        *ms = seconds > 0 && seconds < 86400 ? (uint64_t)(seconds * 1000) : 0;
        return *end == '\0' && *ms >= DELAY_MS_MIN;
}

int main(int argc, char **argv)
{
        static const struct option names[] = {
                {"batch", no_argument, NULL, 'b'},        {"count", required_argument, NULL, 'n'},
                {"delay", required_argument, NULL, 'd'},  {"sort", required_argument, NULL, 's'},
                {"filter", required_argument, NULL, 'f'}, {"show", required_argument, NULL, 'k'},
                {"socket", required_argument, NULL, 'S'}, {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0},
        };
        struct view view = {.fd = -1, .kind = -1, .delay_ms = DELAY_MS_STANDARD, .count = 1};
        bool is_batch = false, right = true;
        int option, status;

        if (getenv("IVGPU_CONTROL_SOCKET"))
                socket_path = getenv("IVGPU_CONTROL_SOCKET");
        while (right && (option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
                switch (option) {
                case 'b':
                        is_batch = true;
                        break;
                case 'n':
                        right = ivg_number_option("count", optarg, 1, UINT64_MAX, &view.count);
                        break;
                case 'd':
                        right = delay_parse(optarg, &view.delay_ms);
                        break;
                case 's':
                        right = sort_parse(optarg, &view.table.sort);
                        break;
                case 'f':
                        snprintf(view.filter, sizeof(view.filter), "%s", optarg);
                        break;
                case 'k':
                        right = kind_parse(optarg, &view.kind);
                        break;
                case 'S':
                        socket_path = optarg;
                        break;
                case 'h':
                        usage(stdout);
                        return EXIT_DONE;
                case 'v':
                        puts("ivgpu-top " IVG_VERSION);
                        return EXIT_DONE;
                default:
                        right = false;
                }
        }
        if (!right || optind != argc) {
                usage(stderr);
                return EXIT_USAGE;
        }
        if (is_batch) {
                status = batch(&view);
        } else if (view_look(&view) < 0) {
                fprintf(stderr, "ivgpu-top: the mediator at %s: %s\n", socket_path, view.words);
                status = EXIT_NO_MEDIATOR;
        } else {
                status = screen(&view);
        }
        view_close(&view);
        free(view.rows.rows);
        return status;
}
