/* What ivgpu-top shows: rates of pools, VMs and programs between two looks at a mediator's counters. */
#ifndef IVG_TOP_ROWS_H
#define IVG_TOP_ROWS_H

#include "control_client.h"
#include <stdbool.h>
#include <stdint.h>

enum ivg_top_kind { IVG_TOP_POOL, IVG_TOP_MEMBER, IVG_TOP_PROGRAM };
enum ivg_top_column {
        IVG_TOP_CALLS, /* a second; by class: async, sync, lane, reaper */
        IVG_TOP_ASYNC,
        IVG_TOP_SYNC,
        IVG_TOP_LANE,
        IVG_TOP_REAPER,
        IVG_TOP_UP, /* GB a second from guests, to guests */
        IVG_TOP_DOWN,
        IVG_TOP_GPU,   /* percent of one GPU's time */
        IVG_TOP_SHARE, /* percent of what its pool used; percent by its weight */
        IVG_TOP_PROMISED,
        IVG_TOP_VRAM, /* MiB; cap of one GPU */
        IVG_TOP_CAP,
        IVG_TOP_QUEUE,  /* slots that waited at the latest batch */
        IVG_TOP_P99,    /* us of a batch, of those in between */
        IVG_TOP_SLEEPS, /* a second */
        IVG_TOP_COLUMNS
};
extern const char *const ivg_top_titles[IVG_TOP_COLUMNS];

struct ivg_top_row {
        enum ivg_top_kind kind;
        char name[96], pool[64], state[24];
        uint64_t executor_pid, channel; /* of a program */
        double values[IVG_TOP_COLUMNS]; /* below 0: there is no such figure */
};
struct ivg_top_rows {
        struct ivg_top_row *rows;
        uint32_t count;
        double seconds; /* between the two looks */
};

/* One look: the answers of list, stats and programs. 0, -EACCES refused, or -errno, with words; to be put. */
struct ivg_top_look {
        struct json_object *list, *stats, *programs;
};
int ivg_top_look(int fd, struct ivg_top_look *look, char words[IVG_CONTROL_WORDS_BYTES]);
void ivg_top_look_free(struct ivg_top_look *look);

/* Whoever is in the later look only counts from 0. -ENOMEM. Rows are to be freed. */
int ivg_top_rows_make(const struct ivg_top_look *before, const struct ivg_top_look *now, struct ivg_top_rows *rows);
/* Pools first, then VMs, then programs; each by the column, falling (IVG_TOP_COLUMNS: by name). Of one kind only when
 * `kind` is not negative; `filter`, if not empty, must be in the name or pool. */
void ivg_top_rows_arrange(struct ivg_top_rows *rows, uint32_t column, const char *filter, int kind);
/* One line without newline, cut to `capacity`. `row` NULL: the titles. */
void ivg_top_row_print(const struct ivg_top_row *row, char *text, size_t capacity);

#endif
