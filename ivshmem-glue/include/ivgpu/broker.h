/* Between a guest's programs and its broker, where the kernel driver is not installed: the broker holds the device
 * through vfio-pci, gives each program a channel, and plays the guest driver's part.
 *
 * SOCK_SEQPACKET, as a mediator's local attach (server.h): hello, then this welcome or a refusal, then the socket is a
 * sign of life in both directions. A program that closes it, or dies, has given its channel back. */
#ifndef IVGPU_BROKER_H
#define IVGPU_BROKER_H

#include "ivgpu/server.h"

#define IVG_BROKER_SOCKET_DEFAULT "/run/ivgpu/broker.sock"

/* With two descriptors, in this order: the vfio device, whose file holds region and doorbell register at the offsets
 * below, and the eventfd of this channel's interrupts. */
#define IVG_BROKER_FDS 2u
struct ivg_broker_welcome {
        struct ivg_local_welcome common; /* region_bytes is BAR 2's */
        uint32_t channel, generation;    /* claimed: the guest's word is OPEN already */
        uint32_t doorbell_vector;
        uint32_t reserved;
        uint64_t region_file_offset;
        uint64_t doorbell_file_offset; /* a 4-byte write of (peer << 16 | vector) rings */
};

#endif
