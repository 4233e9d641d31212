/* The guest driver's idea of the layout. Its header is written in the kernel's types, which <linux/types.h> has too. */
#include "ivg_layout.h"

#define LIST kmod_layout_driver
#define LIST_COUNT kmod_layout_driver_count
#include "kmod_layout_list.h"
