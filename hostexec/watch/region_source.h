/* A region to be read by somebody who takes no part in it: a live one by descriptor, a saved file, a device's BAR.
 *
 * What is read is copied out first and believed afterwards only as far as it was checked; a file that is cut meanwhile
 * is an error, not a SIGBUS. */
#ifndef IVG_REGION_SOURCE_H
#define IVG_REGION_SOURCE_H

#include "ivgpu/region.h"

struct ivg_region_source {
        int fd;
        uint64_t bytes;
        bool is_bar; /* sysfs gives a BAR's memory by mmap only */
};

/* Takes `fd` over. -errno with words; it is closed then. */
int ivg_region_source_open(struct ivg_region_source *source, int fd, struct ivg_error *error);
int ivg_region_source_open_path(struct ivg_region_source *source, const char *path, struct ivg_error *error);
void ivg_region_source_close(struct ivg_region_source *source);
/* Copies [offset, offset + bytes), each aligned word of a BAR once. 0 or -errno with words. */
int ivg_region_source_read(const struct ivg_region_source *source, uint64_t offset, void *to, size_t bytes,
                           struct ivg_error *error);
/* Copies all but the arena, which is what programs computed with, to a new file of the region's size. */
int ivg_region_source_save(const struct ivg_region_source *source, const char *path, struct ivg_error *error);

/* Regions that a process holds (ivgpud, QEMU, ivgpu-exec), by its descriptors; for root. Fills at most `max`, returns
 * how many there are, or -errno with words. One region held twice counts once. */
int ivg_region_sources_of_process(int pid, struct ivg_region_source *sources, uint32_t max, struct ivg_error *error);

#endif
