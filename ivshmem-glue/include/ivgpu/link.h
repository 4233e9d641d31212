/* The guest's way to a region and its doorbells: one interface, several transports.
 *
 *   driver  /dev/ivgpuN of our kernel driver in a guest: any user of its group, interrupts, processes kept apart
 *   local   UNIX socket of a mediator on this machine (containers, tests, ivgpu-run): the shim plays the guest driver
 *   broker  UNIX socket of ivgpu-broker in a guest without our driver: vfio-pci, interrupts; processes not kept apart
 *   sysfs   BAR2 and BAR0 of the ivshmem device through sysfs: root only, polling, one link a process; for bring-up
 *
 * Opening a link claims a channel, waits until its executor is ready and maps the parts this process may see. */
#ifndef IVGPU_LINK_H
#define IVGPU_LINK_H

#include "ivgpu/region.h"

struct ivg_link;

/* Environment: IVGPU_CHANNEL = "driver:/dev/ivgpu0" | "local:PATH" | "broker:PATH" | "sysfs:0000:00:03.0" forces one
 * place (another scheme: -EPROTONOSUPPORT). Unset: the first /dev/ivgpuN there is; then IVGPU_SOCKET or else
 * /run/ivgpu/local.sock; then a broker's /run/ivgpu/broker.sock; when nobody listens there or it is forbidden, the
 * first ivshmem device in sysfs whose BAR2 is ours. A mediator that refuses ends the search. Programs with raised
 * rights (set-user-id) ignore the environment. On failure `error` names each place that was tried and why it failed
 * (absent, refused, permission), and *code is the number for the user (IVG_ERROR_MEDIATOR_UNAVAILABLE, the mediator's
 * or executor's own reason, ...). Bounded by IVG_LINK_OPEN_MS, and a second more to give back a channel that did not
 * get ready. Callers: one thread. */
#define IVG_LINK_OPEN_MS 10000u
int ivg_link_open(uint64_t call_table_fingerprint, struct ivg_link **link, enum ivg_error_code *code,
                  struct ivg_error *error);
/* Closes the channel in order (ring must be idle), frees its extents once the host has let go of them, unmaps, closes
 * descriptors. sysfs waits up to a second for the host; what is left then is the next claimant's to finish. */
void ivg_link_close(struct ivg_link *link);
/* At the process's exit: closes the channel, but leaves mappings and descriptors to the kernel, since other threads may
 * still be inside calls or in pinned memory. Only ivg_link_alive() and ivg_link_wait() may be under way or follow. */
void ivg_link_shutdown(struct ivg_link *link);
/* In a fork()ed child: drops descriptors and mappings without a word to the other side. */
void ivg_link_abandon(struct ivg_link *link);

const struct ivg_region *ivg_link_region(const struct ivg_link *link);
uint32_t ivg_link_channel(const struct ivg_link *link);
uint32_t ivg_link_generation(const struct ivg_link *link);
const char *ivg_link_name(const struct ivg_link *link); /* "local:/run/ivgpu/local.sock" */
const char *ivg_link_cost(const struct ivg_link *link); /* what this way lacks, a clause for the user; NULL: nothing */

/* Rings the executor's doorbell. One system call or MMIO write; only when a commit says so. Any thread. */
void ivg_link_doorbell(struct ivg_link *link);

/* Blocks until `done` says true, `timeout_ms` have passed, or the peer is gone. `done` reads, with seq_cst, a word that
 * the host stores before it interrupts, and is asked anew after every interrupt. Any number of threads may wait at
 * once: one reads the interrupt eventfd for all (leader), the others sleep on futexes of this process; every interrupt
 * wakes all. With a transport that has no interrupts it sleeps in growing steps up to 1 ms. `done` is called with `arg`
 * by the waiting thread itself, and an answer that is there counts before a peer that is gone. Not a cancellation
 * point. Returns 0 (done), -ETIMEDOUT, or ivg_link_alive()'s error. */
int ivg_link_wait(struct ivg_link *link, bool (*done)(void *arg), void *arg, uint32_t timeout_ms);

/* 0 while mediator and executor live as far as shared memory and socket tell; -EOWNERDEAD executor gone, -EPIPE
 * mediator gone, -ESHUTDOWN closed, -EPROTO fault. Cheap enough for once per millisecond of spinning, not for every
 * call. */
int ivg_link_alive(struct ivg_link *link);

/* Maps the arena at `address` (see ivg_region_map_arena); the link remembers it for close. */
int ivg_link_map_arena(struct ivg_link *link, void *address);
/* Takes that mapping away again: the executor could not use the same address. Nobody may be using it. */
void ivg_link_unmap_arena(struct ivg_link *link);

/* Claims `count` contiguous extents for this channel (first fit by compare-and-swap on the owner words), or gives them
 * back. -ENOSPC when no run of that length is free (other processes' claims under way count as taken). Any thread;
 * a mutex keeps the threads of one process from seeing each other half done. Releasing what is not owned is asserted:
 * our own mistake. */
int ivg_link_extents_claim(struct ivg_link *link, uint32_t count, uint32_t *first);
void ivg_link_extents_release(struct ivg_link *link, uint32_t first, uint32_t count);

#endif
