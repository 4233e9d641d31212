/* ivgpu-top's table on a terminal: short figures, so that all columns stand side by side in 125 characters; on a
 * narrower one they move. */
#ifndef IVG_TOP_TABLE_H
#define IVG_TOP_TABLE_H

#include "top_rows.h"

struct ivg_top_table {
        uint32_t selected, first; /* rows */
        uint32_t shift;           /* columns that have moved out on the left */
        uint32_t sort;            /* enum ivg_top_column, or IVG_TOP_COLUMNS: the name */
};
/* Lines `top` to `bottom` of the screen, titles in the first; keeps `table` within what is there. */
void ivg_top_table_draw(struct ivg_top_table *table, const struct ivg_top_rows *rows, int top, int bottom, int width);
void ivg_top_colours_begin(void);

#endif
