#include "top_table.h"
#include <ncurses.h>
#include <stdio.h>
#include <string.h>

#define POOL_WIDTH 7
#define STATE_WIDTH 8
#define FIGURE_WIDTH 6 /* a blank and five characters */
#define NAME_WIDTH_MIN 18
#define NAME_WIDTH_MAX 40
#define FIGURE_BYTES 16
#define LINE_BYTES 512
#define NEAR_CAP 0.9

enum colour { COLOUR_TITLES = 1, COLOUR_WARNING };

enum unit { UNIT_COUNT, UNIT_GB, UNIT_PERCENT, UNIT_MIB, UNIT_US };
/* What is watched most stands first. */
static const struct shown {
        enum ivg_top_column column;
        char title[FIGURE_WIDTH];
        enum unit unit;
} shown[] = {
        {IVG_TOP_CALLS, "calls", UNIT_COUNT},
        {IVG_TOP_GPU, "GPU%", UNIT_PERCENT},
        {IVG_TOP_SHARE, "share", UNIT_PERCENT},
        {IVG_TOP_PROMISED, "due%", UNIT_PERCENT},
        {IVG_TOP_VRAM, "VRAM", UNIT_MIB},
        {IVG_TOP_CAP, "cap", UNIT_MIB},
        {IVG_TOP_QUEUE, "queue", UNIT_COUNT},
        {IVG_TOP_P99, "p99", UNIT_US},
        {IVG_TOP_UP, "up", UNIT_GB},
        {IVG_TOP_DOWN, "down", UNIT_GB},
        {IVG_TOP_SLEEPS, "sleep", UNIT_COUNT},
        {IVG_TOP_ASYNC, "async", UNIT_COUNT},
        {IVG_TOP_SYNC, "sync", UNIT_COUNT},
        {IVG_TOP_LANE, "lane", UNIT_COUNT},
        {IVG_TOP_REAPER, "reap", UNIT_COUNT},
};
#define SHOWN_COUNT (uint32_t)(sizeof(shown) / sizeof(shown[0]))
_Static_assert(sizeof(shown) / sizeof(shown[0]) == IVG_TOP_COLUMNS, "each column once");

/* Five characters at most: 999, 12.3k, 123k, 1.2M. */
static void scaled_print(char text[FIGURE_BYTES], double value, double step, const char *suffixes)
{
        while (value >= step * 0.9995 && suffixes[1] != '\0') {
                value /= step;
                suffixes++;
        }
        snprintf(text, FIGURE_BYTES, "%.*f%.1s", *suffixes != ' ' && value < 99.95 ? 1 : 0, value,
                 *suffixes == ' ' ? "" : suffixes);
}

static void figure_print(char text[FIGURE_BYTES], double value, enum unit unit)
{
        if (value < 0)
                strcpy(text, "-");
        else if (value == 0)
                strcpy(text, "0");
        else if (unit == UNIT_PERCENT)
                snprintf(text, FIGURE_BYTES, "%.1f", value);
        else if (unit == UNIT_GB)
                scaled_print(text, value * 1e9, 1000, " kMGTP");
        else if (unit == UNIT_MIB)
                scaled_print(text, value, 1024, "MGTP");
        else if (unit == UNIT_US)
                scaled_print(text, value, 1000, "ums");
        else
                scaled_print(text, value, 1000, " kMGTP");
}

static int name_width(int width)
{
        const int rest = width - POOL_WIDTH - STATE_WIDTH - (int)SHOWN_COUNT * FIGURE_WIDTH - 2;

        return rest < NAME_WIDTH_MIN ? NAME_WIDTH_MIN : rest > NAME_WIDTH_MAX ? NAME_WIDTH_MAX : rest;
}

/* Fills the line, so that its look reaches from edge to edge. */
static void line_draw(int y, int width, const char *text, attr_t look)
{
        attron(look);
        mvhline(y, 0, ' ' | look, width);
        mvaddnstr(y, 0, text, width);
        attroff(look);
}

static int lead_print(char line[LINE_BYTES], const char *name, const char *pool, const char *state, int width)
{
        const int names = name_width(width);

        return snprintf(line, LINE_BYTES, "%-*.*s %-*.*s %-*.*s", names, names, name, POOL_WIDTH, POOL_WIDTH, pool,
                        STATE_WIDTH, STATE_WIDTH, state);
}

static attr_t warning(void)
{
        return has_colors() ? COLOR_PAIR(COLOUR_WARNING) | A_BOLD : A_UNDERLINE;
}

static void titles_draw(const struct ivg_top_table *table, int y, int width)
{
        const attr_t look = has_colors() ? (attr_t)COLOR_PAIR(COLOUR_TITLES) : A_BOLD;
        char line[LINE_BYTES];
        int x = lead_print(line, "NAME", "POOL", "STATE", width);

        line_draw(y, width, line, look);
        for (uint32_t i = table->shift; i < SHOWN_COUNT && x + FIGURE_WIDTH <= width; i++, x += FIGURE_WIDTH) {
                const attr_t sorted = shown[i].column == table->sort ? A_REVERSE : A_NORMAL;

                attron(look);
                mvprintw(y, x, "%*s", FIGURE_WIDTH - (int)strlen(shown[i].title), "");
                attron(sorted);
                addstr(shown[i].title);
                attroff(sorted);
                attroff(look);
        }
}

static void row_draw(const struct ivg_top_table *table, const struct ivg_top_row *row, int y, int width,
                     bool is_selected)
{
        const attr_t look = (is_selected ? A_REVERSE : 0) | (row->kind == IVG_TOP_POOL ? A_BOLD : 0);
        const bool near_cap =
                row->values[IVG_TOP_CAP] > 0 && row->values[IVG_TOP_VRAM] >= row->values[IVG_TOP_CAP] * NEAR_CAP;
        char line[LINE_BYTES], figure[FIGURE_BYTES];
        int x = lead_print(line, row->name, row->pool, row->state, width);

        line_draw(y, width, line, look);
        if (strcmp(row->state, "quarantined") == 0 || strcmp(row->state, "paused") == 0) {
                attron(look | warning());
                mvaddnstr(y, name_width(width) + 1 + POOL_WIDTH + 1, row->state, STATE_WIDTH);
                attroff(look | warning());
        }
        for (uint32_t i = table->shift; i < SHOWN_COUNT && x + FIGURE_WIDTH <= width; i++, x += FIGURE_WIDTH) {
                const attr_t own = look | (near_cap && shown[i].column == IVG_TOP_VRAM ? warning() : 0);

                figure_print(figure, row->values[shown[i].column], shown[i].unit);
                attron(own);
                mvprintw(y, x, "%*s", FIGURE_WIDTH, figure);
                attroff(own);
        }
}

void ivg_top_table_draw(struct ivg_top_table *table, const struct ivg_top_rows *rows, int top, int bottom, int width)
{
        const uint32_t room = bottom > top ? (uint32_t)(bottom - top) : 0;
        const int figures = width - name_width(width) - POOL_WIDTH - STATE_WIDTH - 2;
        const uint32_t fit = figures > 0 ? (uint32_t)(figures / FIGURE_WIDTH) : 0;
        const uint32_t shift_max = fit < SHOWN_COUNT ? SHOWN_COUNT - fit : 0;

        if (table->shift > shift_max)
                table->shift = shift_max;
        if (table->selected >= rows->count)
                table->selected = rows->count > 0 ? rows->count - 1 : 0;
        if (table->selected < table->first)
                table->first = table->selected;
        if (room > 0 && table->selected >= table->first + room)
                table->first = table->selected - room + 1;
        titles_draw(table, top, width);
        for (uint32_t i = 0; i < room && table->first + i < rows->count; i++)
                row_draw(table, &rows->rows[table->first + i], top + 1 + (int)i, width,
                         table->first + i == table->selected);
}

void ivg_top_colours_begin(void)
{
        if (!has_colors())
                return;
        start_color();
        use_default_colors();
        init_pair(COLOUR_TITLES, COLOR_BLACK, COLOR_CYAN);
        init_pair(COLOUR_WARNING, COLOR_RED, -1);
}
