/* Device attributes as a guest must see them: the host's values, except where they would promise what we do not carry.
 */
#include "guest.h"

/* An attribute that says "use this feature" is answered with the host's value only while the feature's entry point is
 * carried (`needs`); without an entry point it is always `instead`. Programs then take their other path. */
static const struct attribute_rule {
        CUdevice_attribute attribute;
        int instead;
        const char *needs; /* NULL: `instead` whatever the host says */
        /* why is in the comment beside each group */
} attribute_rules[] = {
        /* Pages of the guest's own memory are not the host's: nothing on the device can follow a guest pointer. */
        {CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED, 0, NULL},
        /* Managed memory is ours, whatever the host's driver has: arena memory, which the program may touch while
         * kernels run (programs that find 0 here synchronize before each touch, and must not prefetch). */
        {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1, NULL},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1, NULL},
        /* Virtual memory management; shared by descriptors, which are tickets here (share.c), and by nothing else. */
        {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0, "cuMemMap"},
        {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 0, "cuMemExportToShareableHandle"},
        {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_WIN32_HANDLE_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_GENERIC_COMPRESSION_SUPPORTED, 0, "cuMemCreate"},
        {CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_ALLOC_DMA_BUF_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED, 0, NULL},
        /* Stream-ordered pools. */
        {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 0, "cuMemAllocAsync"},
        {CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES, 0, "cuMemPoolExportToShareableHandle"},
        {CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_NUMA_MEMORY_POOLS_SUPPORTED, 0, NULL},
        /* Other devices of the guest: a network card there cannot reach the host's GPU. */
        {CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES, 0, NULL},
        /* Sharing with other interfaces and, of events, with other processes. */
        {CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED, 0, "cuIpcOpenEventHandle"},
        {CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED, 0, "cuImportExternalSemaphore"},
        {CU_DEVICE_ATTRIBUTE_D3D12_CIG_SUPPORTED, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_VULKAN_CIG_SUPPORTED, 0, NULL},
        /* Arrays without memory behind them. */
        {CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED, 0, "cuMemMapArrayAsync"},
        {CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED, 0, "cuMemMapArrayAsync"},
        /* Memory operations of streams. */
        {CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS_V1, 0, "cuStreamWaitValue32"},
        {CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS_V1, 0, "cuStreamWaitValue64"},
        {CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR_V1, 0, "cuStreamWaitValue32"},
        {CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, 0, "cuStreamWaitValue64"},
        {CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR, 0, "cuStreamWaitValue32"},
        /* Single features. */
        {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 0, "cuLaunchCooperativeKernel"},
        {CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH, 0, "cuLaunchCooperativeKernelMultiDevice"},
        {CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED, 0, "cuTensorMapEncodeTiled"},
        {CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_MEM_DECOMPRESS_ALGORITHM_MASK, 0, "cuMemBatchDecompressAsync"},
        {CU_DEVICE_ATTRIBUTE_MEM_DECOMPRESS_MAXIMUM_LENGTH, 0, "cuMemBatchDecompressAsync"},
        /* The host's memory nodes mean nothing in the guest. */
        {CU_DEVICE_ATTRIBUTE_NUMA_CONFIG, 0, NULL},
        {CU_DEVICE_ATTRIBUTE_NUMA_ID, -1, NULL},
        {CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, -1, NULL},
};

void ivg_device_apply_rules(struct ivg_device *device)
{
        for (size_t i = 0; i < sizeof(attribute_rules) / sizeof(attribute_rules[0]); i++) {
                const struct attribute_rule *rule = &attribute_rules[i];

                if (rule->needs == NULL || !ivg_symbol_carried(rule->needs))
                        device->attributes[rule->attribute] = rule->instead;
        }
        /* Several in one: of them only descriptors are carried. */
        device->attributes[CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES] &=
                CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
}
