/* ivgDeviceStatus: what changes about a device and only its host can measure. One answer for all, since whoever asks
 * for one figure soon asks for the others. Part of the wire: see call_wire.h. */
#ifndef IVGPU_DEVICE_STATUS_H
#define IVGPU_DEVICE_STATUS_H

#include <stdint.h>

/* Units and meaning are NVML's, so that nothing is converted on the way. The order is the wire: append only. */
enum ivg_status_item {
        IVG_STATUS_TEMPERATURE, /* degrees Celsius; thresholds too */
        IVG_STATUS_TEMPERATURE_SHUTDOWN,
        IVG_STATUS_TEMPERATURE_SLOWDOWN,
        IVG_STATUS_TEMPERATURE_MEMORY_MAX,
        IVG_STATUS_TEMPERATURE_GPU_MAX,
        IVG_STATUS_UTILIZATION_GPU, /* percent; memory follows */
        IVG_STATUS_UTILIZATION_MEMORY,
        IVG_STATUS_POWER_USAGE, /* milliwatts; limits too */
        IVG_STATUS_POWER_LIMIT,
        IVG_STATUS_POWER_LIMIT_ENFORCED,
        IVG_STATUS_POWER_LIMIT_DEFAULT,
        IVG_STATUS_POWER_LIMIT_MIN, /* max follows */
        IVG_STATUS_POWER_LIMIT_MAX,
        IVG_STATUS_POWER_MANAGEMENT, /* 0, 1 */
        IVG_STATUS_ENERGY,           /* millijoules since the driver was loaded */
        IVG_STATUS_CLOCK,            /* MHz: graphics, SM, memory, video, in the order of nvmlClockType_t */
        IVG_STATUS_CLOCK_SM,
        IVG_STATUS_CLOCK_MEMORY,
        IVG_STATUS_CLOCK_VIDEO,
        IVG_STATUS_CLOCK_MAX, /* the same four */
        IVG_STATUS_CLOCK_MAX_SM,
        IVG_STATUS_CLOCK_MAX_MEMORY,
        IVG_STATUS_CLOCK_MAX_VIDEO,
        IVG_STATUS_FAN_SPEED, /* percent */
        IVG_STATUS_FANS,
        IVG_STATUS_PERFORMANCE_STATE,
        IVG_STATUS_PCIE_GENERATION,
        IVG_STATUS_PCIE_GENERATION_MAX,
        IVG_STATUS_PCIE_WIDTH,
        IVG_STATUS_PCIE_WIDTH_MAX,
        IVG_STATUS_ECC, /* 0, 1; pending follows */
        IVG_STATUS_ECC_PENDING,
        IVG_STATUS_PERSISTENCE,
        IVG_STATUS_COMPUTE_MODE,
        IVG_STATUS_BRAND,
        IVG_STATUS_ARCHITECTURE,
        IVG_STATUS_CORES,
        IVG_STATUS_MEMORY_BUS_WIDTH, /* bits */
        IVG_STATUS_DISPLAY_MODE,
        IVG_STATUS_DISPLAY_ACTIVE,
        IVG_STATUS_MULTI_GPU_BOARD,
        IVG_STATUS_PCI_DEVICE,    /* device << 16 | vendor */
        IVG_STATUS_PCI_SUBSYSTEM, /* the same of the board */
        IVG_STATUS_ITEMS
};
_Static_assert(IVG_STATUS_ITEMS <= 64, "one bit each in `known`");

struct ivg_wire_device_status {
        uint64_t known; /* bit n: values[n] was measured */
        uint64_t values[IVG_STATUS_ITEMS];
        char host_driver[80]; /* "580.95.05"; empty where the host has no NVML for this device */
        char vbios[32];
};

/* ivgDeviceLink: an NVLink of a device, which tells a program (NCCL) what lies between its devices. The remote end's
 * place is the host's, as those of the devices themselves are. */
#define IVG_LINK_CAPABILITIES 6u /* of nvmlNvLinkCapability_t */
enum ivg_link_item {
        IVG_LINK_STATE,
        IVG_LINK_VERSION,
        IVG_LINK_REMOTE_TYPE,
        IVG_LINK_SPEED, /* MB/s */
        IVG_LINK_REMOTE_PCI,
        IVG_LINK_ITEMS
};

struct ivg_wire_device_link {
        uint32_t known;                     /* bit n: item n was told; bit IVG_LINK_ITEMS + n: capability n */
        uint32_t values[IVG_LINK_ITEMS];    /* but of the place */
        uint32_t capabilities;              /* bit n: it has that one */
        uint32_t pci[5];                    /* domain, bus, device, device << 16 | vendor, the same of the board */
        char bus_id_legacy[16], bus_id[32]; /* NUL-terminated */
};

#endif
