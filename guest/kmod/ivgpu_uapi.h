/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What a program may ask of /dev/ivgpuN.
 *
 * open(O_RDWR)  claims one channel for the calling process and holds it until the process ends, closes the descriptor,
 *               or unmaps the ring and its extents. Blocks while the host is still ending an earlier owner's executor
 *               (O_NONBLOCK: -EAGAIN). -EBUSY: every channel has a living owner. -ETIMEDOUT: the host does not answer.
 *               -ENODEV: the device is going away.
 * mmap          offsets are those of the region. MAP_SHARED only, never executable, inside one of these parts:
 *                 region page                       read
 *                 host pages                        read
 *                 own channel, guest part           read, write
 *                 own channel, host part            read
 *                 arena                             read, write; touching an extent that is not claimed is SIGBUS
 *               Anything else is -EACCES: guest pages and other channels are nobody's. A fork()ed child inherits none of
 *               it. Once the device or the channel is gone, these addresses read as zeroes and writes are lost, so that
 *               a program which polls them finds out in its own way instead of by a signal.
 * poll          EPOLLIN after an interrupt, EPOLLHUP | EPOLLERR once device or channel is gone.
 * read          8 bytes: interrupts since the last read, at least 1; blocks, or -EAGAIN with O_NONBLOCK.
 * ioctl         below. Only the process that opened the descriptor may map or ask: others get -EPERM.
 *               -ENODEV: device or channel is gone. -ESHUTDOWN: the channel was closed. -EINVAL: reserved fields must be 0.
 *
 * An interrupt belongs to a vector and a vector may serve several channels: a wake-up says "look again", nothing more.
 */
#ifndef IVGPU_UAPI_H
#define IVGPU_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IVGPU_ABI_VERSION 1u

#define IVGPU_INFO_INTERRUPTS (1u << 0) /* this channel's vector works; without it a sleeper must poll */

struct ivgpu_info {
	__u32 abi_version;
	__u32 flags;
	__u32 channel;
	__u32 generation;
	__u64 region_bytes;
	__u32 vector;
	__u32 extents_claimed;
	__u64 boot_epoch;
	__u64 reserved[3];
};

struct ivgpu_extents {
	__u32 first; /* claim: out; release: in */
	__u32 count;
	__u64 reserved;
};

struct ivgpu_eventfd {
	__s32 fd; /* -1: none any more */
	__u32 reserved;
};

#define IVGPU_IOC_TYPE 0xB7
#define IVGPU_IOC_INFO _IOR(IVGPU_IOC_TYPE, 0x00, struct ivgpu_info)
/*
 * Claims `count` contiguous extents, first fit; their content is zero or this process's own. -ENOSPC: no such run.
 * -EINTR: killed meanwhile, nothing claimed.
 */
#define IVGPU_IOC_EXTENTS_CLAIM _IOWR(IVGPU_IOC_TYPE, 0x01, struct ivgpu_extents)
/*
 * Gives extents back: they are unmapped at once. They stay reserved for this process until it ends, since work that its
 * executor has already accepted may still reach them. -ENXIO: not all of them are this process's.
 */
#define IVGPU_IOC_EXTENTS_RELEASE _IOW(IVGPU_IOC_TYPE, 0x02, struct ivgpu_extents)
/* The eventfd counts up at every interrupt and once when device or channel goes. -EOPNOTSUPP: no interrupts here. */
#define IVGPU_IOC_EVENTFD _IOW(IVGPU_IOC_TYPE, 0x03, struct ivgpu_eventfd)
/* Rings the executor. */
#define IVGPU_IOC_DOORBELL _IO(IVGPU_IOC_TYPE, 0x04)
/* Tells the host that this process is done; mappings and extents stay until the descriptor goes. */
#define IVGPU_IOC_CLOSE _IO(IVGPU_IOC_TYPE, 0x05)

#endif
