/* systemd as ivgpud's service manager: sockets that it holds, news for it, its watchdog, its journal.
 *
 * Nothing of this happens where no manager started ivgpud: then sockets are made here, and libsystemd is not loaded.
 * A socket that the manager holds outlives ivgpud: who connects while ivgpud starts anew waits and is not refused.
 * So does what it was given to keep (its descriptor store): a QEMU does not notice that ivgpud started anew. */
#ifndef IVGPUD_MANAGER_H
#define IVGPUD_MANAGER_H

#include "ivgpu/region.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* What systemd_module.c exports as "ivg_systemd": libsystemd's functions of the same names. */
struct ivg_systemd {
        int (*listen_fds_with_names)(int unset_environment, char ***names);
        int (*notify)(int unset_environment, const char *state);
        int (*pid_notify_with_fds)(pid_t pid, int unset_environment, const char *state, const int *fds,
                                   unsigned int fd_count);
        int (*watchdog_enabled)(int unset_environment, uint64_t *usec);
        int (*journal_sendv)(const struct iovec *fields, int count);
};

/* Sockets that a manager may hand over; one unit has a few. */
#define IVG_MANAGER_SOCKETS_MAX 16u

/* First of all, before descriptors are opened or moved. -errno with words: there is a manager, but no way to talk to
 * it. */
int ivg_manager_open(int fd_first, struct ivg_error *error);
/* libsystemd's functions, loaded where no manager made it necessary before. NULL with words. */
const struct ivg_systemd *ivg_manager_library(struct ivg_error *error);

/* A listening socket at `path`: the manager's where it holds one (its mode and owner are then the unit's), or
 * ivg_server_listen's. -errno with words. */
int ivg_manager_listen(const char *path, mode_t mode, int socket_type, struct ivg_error *error);
bool ivg_manager_holds(const char *path);
/* Nobody listens there any more: removes it, unless the manager holds it. */
void ivg_manager_unlink(const char *path);
/* Sockets that were handed over and are nobody's, one after the other; NULL: no more. */
const char *ivg_manager_unused(uint32_t *next);

/* ---- its descriptor store (FileDescriptorStoreMax= of the unit; it says nothing when that is full) ---- */

/* "vm7.region": what is kept of a VM begins with IVG_MANAGER_KEPT_PREFIX. Names are handed back in one variable of the
 * environment, 128 KiB at most: the unit's number of descriptors times the longest name fits. */
#define IVG_MANAGER_KEPT_PREFIX "vm"
#define IVG_MANAGER_KEPT_NAME_BYTES 20u

/* There is a manager, to which ivg_manager_keep gives things. */
bool ivg_manager_keeps(void);
/* Keeps a copy of `fd`, until it is forgotten or the unit is stopped; one that hangs up goes by itself. */
void ivg_manager_keep(const char *name, int fd);
void ivg_manager_forget(const char *name);
/* What ivgpud had the manager keep when it ran before; the caller closes it. -1: nothing of that name. */
int ivg_manager_kept(const char *name);
/* Forgets and closes what nobody has taken; how many that were, and one's name. */
uint32_t ivg_manager_kept_drop(char example[IVG_MANAGER_KEPT_NAME_BYTES]);

/* "READY=1" and the like; the manager's absence is no failure. */
void ivg_manager_notify(const char *state);
/* Tells the watchdog that the loop goes on, as often as it wants to hear it. Returns when that is to be said again;
 * UINT64_MAX: never. */
uint64_t ivg_manager_alive(uint64_t now_ms);

#endif
