/* From a lane's address to a checked host address. Global and generic addresses are host addresses already and must lie
 * in the launch's memory map; shared, local and parameter addresses are offsets. As generic addresses the last three
 * are the host addresses of the block's own buffers, which no map entry can overlap. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "ptx_machine.h"
#include "ptx_memory.h"

int ptx_fault_at(struct ptx_warp *warp, enum ptx_status status, unsigned lane, uint64_t address, const char *format,
                 ...)
{
        va_list arguments;

        warp->fault_lane = lane;
        warp->fault_address = address;
        va_start(arguments, format);
        vsnprintf(warp->fault_detail, sizeof(warp->fault_detail), format, arguments);
        va_end(arguments);
        return (int)status;
}

uint64_t ptx_local_window(const struct ptx_warp *warp, unsigned lane)
{
        const struct ptx_block *block = warp->block;

        return (uint64_t)(uintptr_t)block->local + (uint64_t)(warp->first_thread + lane) * block->local_stride;
}

/* Whether [address, address + bytes) lies in [start, start + size), without overflow; the room behind it on success. */
static inline bool within(uint64_t address, uint64_t bytes, uint64_t start, uint64_t size, uint64_t *room)
{
        if (address < start || address - start > size || size - (address - start) < bytes)
                return false;
        *room = size - (address - start);
        return true;
}

static bool find_range(struct ptx_warp *warp, uint64_t address, uint64_t bytes, bool write, uint64_t *room)
{
        const struct ptx_memory *memory = warp->block->run->launch->memory;
        size_t low = 0, high = memory ? memory->count : 0;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (memory->ranges[middle].start <= address)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low == 0)
                return false;
        low--;
        if (!within(address, bytes, memory->ranges[low].start, memory->ranges[low].bytes, room) ||
            (write && !memory->ranges[low].writable))
                return false;
        warp->cached_start = memory->ranges[low].start;
        warp->cached_bytes = memory->ranges[low].bytes;
        warp->cached_writable = memory->ranges[low].writable;
        return true;
}

uint8_t *ptx_resolve_generic(struct ptx_warp *warp, unsigned lane, uint64_t address, uint64_t bytes, bool write,
                             uint64_t *room)
{
        struct ptx_block *block = warp->block;
        struct ptx_run *run = block->run;
        uint64_t ignored;

        if (!room)
                room = &ignored;
        if (within(address, bytes, (uint64_t)(uintptr_t)block->shared, block->shared_bytes, room) ||
            within(address, bytes, ptx_local_window(warp, lane), block->local_stride, room) ||
            (!write && within(address, bytes, (uint64_t)(uintptr_t)run->params, run->function->param_bytes, room)) ||
            within(address, bytes, (uint64_t)(uintptr_t)run->workspace, sizeof(run->workspace), room) ||
            find_range(warp, address, bytes, write, room))
                return (uint8_t *)(uintptr_t)address;
        return NULL;
}

static const char *space_name(unsigned space)
{
        static const char *const names[] = {"generic", "global", "shared", "local", "param", "const"};

        return names[space];
}

static int refuse(struct ptx_warp *warp, const struct ptx_insn *insn, unsigned lane, uint64_t address, unsigned bytes,
                  bool write)
{
        if (address & (bytes - 1))
                return ptx_fault_at(warp, PTX_MISALIGNED, lane, address,
                                    "%s of %u bytes at %s address 0x%" PRIx64 " is misaligned",
                                    write ? "write" : "read", bytes, space_name(insn->space), address);
        return ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, lane, address,
                            "%s of %u bytes at %s address 0x%" PRIx64 " is out of bounds", write ? "write" : "read",
                            bytes, space_name(insn->space), address);
}

static void lane_addresses(struct ptx_warp *warp, const struct ptx_insn *insn, uint64_t address[PTX_LANES])
{
        const uint64_t offset = (uint64_t)insn->offset;

        if (insn->a == PTX_REF_NONE) {
                for (unsigned i = 0; i < PTX_LANES; i++)
                        address[i] = offset;
        } else if (insn->roles & PTX_ROLE_BASE32) {
                const lane_u32 *base = ptx_at(warp, insn->a);

                /* 32-bit addresses wrap at 32 bits: negative offsets are large ones. */
                for (unsigned i = 0; i < PTX_LANES; i++)
                        address[i] = base[i] + (uint32_t)offset;
        } else {
                const lane_u64 *base = ptx_at(warp, insn->a);

                for (unsigned i = 0; i < PTX_LANES; i++)
                        address[i] = base[i] + offset;
        }
}

/* Offsets of a window of `size` bytes at base + lane * stride. */
static int resolve_window(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask, unsigned bytes, bool write,
                          uint64_t *address, uint8_t **place, uint8_t *base, uint64_t stride, uint64_t size)
{
        const uint64_t last = size >= bytes ? size - bytes : 0;
        uint64_t bad = size < bytes;

        if (mask == PTX_MASK_FULL) {
                for (unsigned i = 0; i < PTX_LANES; i++)
                        bad |= (uint64_t)(address[i] > last) | (address[i] & (bytes - 1));
                if (!bad) {
                        for (unsigned i = 0; i < PTX_LANES; i++)
                                place[i] = base + i * stride + address[i];
                        return 0;
                }
        }
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);

                if (size < bytes || address[i] > last || (address[i] & (bytes - 1)))
                        return refuse(warp, insn, i, address[i], bytes, write);
                place[i] = base + i * stride + address[i];
        }
        return 0;
}

static int resolve_map(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask, unsigned bytes, bool write,
                       uint64_t *address, uint8_t **place)
{
        const bool cached = warp->cached_bytes >= bytes && (warp->cached_writable || !write);
        const uint64_t start = warp->cached_start, last = cached ? warp->cached_bytes - bytes : 0;

        if (cached && mask == PTX_MASK_FULL) {
                uint64_t bad = 0;

                for (unsigned i = 0; i < PTX_LANES; i++)
                        bad |= (uint64_t)(address[i] - start > last) | (address[i] & (bytes - 1));
                if (!bad) {
                        for (unsigned i = 0; i < PTX_LANES; i++)
                                place[i] = (uint8_t *)(uintptr_t)address[i];
                        return 0;
                }
        }
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);

                if (address[i] & (bytes - 1))
                        return refuse(warp, insn, i, address[i], bytes, write);
                if (cached && address[i] - start <= last)
                        place[i] = (uint8_t *)(uintptr_t)address[i];
                else
                        place[i] = ptx_resolve_generic(warp, i, address[i], bytes, write, NULL);
                if (!place[i])
                        return refuse(warp, insn, i, address[i], bytes, write);
        }
        return 0;
}

int ptx_resolve(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask, unsigned bytes, bool write,
                uint8_t *place[PTX_LANES])
{
        struct ptx_block *block = warp->block;
        uint64_t address[PTX_LANES];

        lane_addresses(warp, insn, address);
        switch (insn->space) {
        case PTX_SPACE_SHARED:
                return resolve_window(warp, insn, mask, bytes, write, address, place, block->shared, 0,
                                      block->shared_bytes);
        case PTX_SPACE_LOCAL:
                /* A place named directly is relative to the frame; an address in a register is not. */
                if (insn->a == PTX_REF_NONE)
                        for (unsigned i = 0; i < PTX_LANES; i++)
                                address[i] += warp->local_base;
                return resolve_window(warp, insn, mask, bytes, write, address, place,
                                      (uint8_t *)(uintptr_t)ptx_local_window(warp, 0), block->local_stride,
                                      block->local_stride);
        case PTX_SPACE_PARAM:
                return resolve_window(warp, insn, mask, bytes, write, address, place, block->run->params, 0,
                                      write ? 0 : block->run->function->param_bytes);
        default:
                return resolve_map(warp, insn, mask, bytes, write, address, place);
        }
}

/* The start of a space as a generic address: what cvta adds. */
static uint64_t window_start(const struct ptx_warp *warp, unsigned space, unsigned lane)
{
        switch (space) {
        case PTX_SPACE_SHARED:
                return (uint64_t)(uintptr_t)warp->block->shared;
        case PTX_SPACE_LOCAL:
                return ptx_local_window(warp, lane);
        case PTX_SPACE_PARAM:
                return (uint64_t)(uintptr_t)warp->block->run->params;
        default:
                return 0;
        }
}

int ptx_op_to_generic(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        lane_u64 *d = ptx_at(warp, insn->d);
        const lane_u64 *a = ptx_at(warp, insn->a);

        PTX_LANES_DO(mask, d[i] = a[i] + window_start(warp, insn->space, i););
        return 0;
}

int ptx_op_from_generic(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        lane_u64 *d = ptx_at(warp, insn->d);
        const lane_u64 *a = ptx_at(warp, insn->a);

        PTX_LANES_DO(mask, d[i] = a[i] - window_start(warp, insn->space, i););
        return 0;
}

static bool is_in(const struct ptx_warp *warp, unsigned space, unsigned lane, uint64_t address)
{
        uint64_t start = window_start(warp, space, lane);

        switch (space) {
        case PTX_SPACE_SHARED:
                return address - start < warp->block->shared_bytes;
        case PTX_SPACE_LOCAL:
                return address - start < warp->block->local_stride;
        case PTX_SPACE_PARAM:
                return address - start < warp->block->run->function->param_bytes;
        default:
                return false;
        }
}

int ptx_op_is_space(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        lane_u32 *d = ptx_at(warp, insn->d);
        const lane_u64 *a = ptx_at(warp, insn->a);
        uint32_t holds = 0;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                bool in;

                /* Everything that is no window is global memory. Constants are there too: only .const tells them apart,
                 * and generic addresses of constants cannot be made on the hardware's usual path either. */
                if (insn->space == PTX_SPACE_GLOBAL)
                        in = !is_in(warp, PTX_SPACE_SHARED, i, a[i]) && !is_in(warp, PTX_SPACE_LOCAL, i, a[i]) &&
                             !is_in(warp, PTX_SPACE_PARAM, i, a[i]);
                else
                        in = is_in(warp, insn->space, i, a[i]);
                holds |= (uint32_t)in << i;
        }
        *d = (*d & ~mask) | holds;
        return 0;
}
