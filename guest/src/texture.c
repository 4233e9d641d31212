/* Texture and surface objects. The program gets the driver's own number, since that is what kernels take; what it
 * stands for is found again by number and context, as each context may count from one. */
#include "cuda_api.h"
#include "guest_send.h"
#include "ivgpu/resource_wire.h"
#include <stdlib.h>

#define BUCKETS 256u

/* `data` of TEXTURE and SURFACE objects. */
struct record {
        struct record *next;
        struct ivg_object *object;
        uint32_t kind;
        uint64_t number;
        CUarray array;           /* as the program named it */
        CUmipmappedArray mipmap; /* likewise */
};

static struct {
        pthread_mutex_t lock;
        struct record *buckets[BUCKETS];
} records = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct record **bucket_of(uint64_t number)
{
        return &records.buckets[(number * 0x9e3779b97f4a7c15ull) >> 56];
}

static void record_release(struct ivg_object *object)
{
        struct record *const record = object->data;

        if (record == NULL)
                return;
        object->data = NULL;
        pthread_mutex_lock(&records.lock);
        for (struct record **link = bucket_of(record->number); *link != NULL; link = &(*link)->next)
                if (*link == record) {
                        *link = record->next;
                        break;
                }
        pthread_mutex_unlock(&records.lock);
        free(record);
}

__attribute__((constructor)) static void set_releases(void)
{
        ivg_object_set_release(IVG_KIND_TEXTURE, record_release);
        ivg_object_set_release(IVG_KIND_SURFACE, record_release);
}

/* The current context's object with this number. */
static CUresult record_find(enum ivg_kind kind, uint64_t number, struct record *found)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        result = CUDA_ERROR_INVALID_HANDLE;
        pthread_mutex_lock(&records.lock);
        for (const struct record *record = *bucket_of(number); record != NULL; record = record->next)
                if (record->number == number && record->kind == (uint32_t)kind && record->object->context == context) {
                        *found = *record;
                        result = CUDA_SUCCESS;
                }
        pthread_mutex_unlock(&records.lock);
        return result;
}

/* ---- resources ---- */

/* The numbers of the arrays that the program names. */
static CUresult resource_describe(const CUDA_RESOURCE_DESC *resource, struct ivg_wire_resource *wire,
                                  struct record *record, ivg_id *array, ivg_id *mipmap)
{
        const struct ivg_object *object;

        *array = *mipmap = IVG_ID_NONE;
        if (!ivg_resource_to_wire(resource, wire))
                return CUDA_ERROR_INVALID_VALUE;
        if (resource->resType == CU_RESOURCE_TYPE_ARRAY) {
                record->array = resource->res.array.hArray;
                object = ivg_object_of(IVG_KIND_ARRAY, record->array);
                *array = object != NULL ? object->id : IVG_ID_NONE;
                return object != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
        }
        if (resource->resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
                record->mipmap = resource->res.mipmap.hMipmappedArray;
                object = ivg_object_of(IVG_KIND_MIPMAP, record->mipmap);
                *mipmap = object != NULL ? object->id : IVG_ID_NONE;
                return object != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
        }
        return CUDA_SUCCESS;
}

/* ---- both kinds ---- */

/* `texture` NULL: a surface. */
static CUresult send_create(const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *texture,
                            const CUDA_RESOURCE_VIEW_DESC *view, struct record *record, ivg_id id)
{
        struct ivg_wire_resource wire;
        ivg_id array, mipmap;
        const CUresult result = resource_describe(resource, &wire, record, &array, &mipmap);

        if (result != CUDA_SUCCESS)
                return result;
        if (texture == NULL)
                return ivg_send_cuSurfObjectCreate(&wire, array, mipmap, id, &record->number);
        return ivg_send_cuTexObjectCreate(&wire, array, mipmap, texture, view, view != NULL, id, &record->number);
}

static CUresult create(enum ivg_kind kind, unsigned long long *number, const CUDA_RESOURCE_DESC *resource,
                       const CUDA_TEXTURE_DESC *texture, const CUDA_RESOURCE_VIEW_DESC *view)
{
        struct ivg_object *context, *object;
        struct record *record;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (number == NULL || resource == NULL || (kind == IVG_KIND_TEXTURE && texture == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        record = calloc(1, sizeof(*record));
        if (record == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_object_create(kind, context, &object);
        if (result != CUDA_SUCCESS) {
                free(record);
                return result;
        }
        result = send_create(resource, texture, view, record, object->id);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(object);
                free(record);
                return result;
        }
        record->kind = kind;
        record->object = object;
        object->data = record;
        pthread_mutex_lock(&records.lock);
        record->next = *bucket_of(record->number);
        *bucket_of(record->number) = record;
        *number = record->number;
        pthread_mutex_unlock(&records.lock);
        return CUDA_SUCCESS;
}

static CUresult destroy(enum ivg_kind kind, uint64_t number, CUresult (*send)(ivg_id id))
{
        struct record record;
        CUresult result = record_find(kind, number, &record);

        if (result == CUDA_SUCCESS)
                result = send(record.object->id);
        if (result == CUDA_SUCCESS)
                ivg_object_destroy(record.object);
        return result;
}

static CUresult get_resource(enum ivg_kind kind, uint64_t number, CUDA_RESOURCE_DESC *resource,
                             CUresult (*send)(ivg_id id, struct ivg_wire_resource *wire))
{
        struct ivg_wire_resource wire;
        struct record record;
        CUresult result = record_find(kind, number, &record);

        if (result == CUDA_SUCCESS && resource == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = send(record.object->id, &wire);
        if (result == CUDA_SUCCESS && !ivg_resource_from_wire(&wire, record.array, record.mipmap, resource))
                result = CUDA_ERROR_UNKNOWN; /* the host has made something up */
        return result;
}

/* ---- exported ---- */

CUresult cuTexObjectCreate(CUtexObject *pTexObject, const CUDA_RESOURCE_DESC *pResDesc,
                           const CUDA_TEXTURE_DESC *pTexDesc, const CUDA_RESOURCE_VIEW_DESC *pResViewDesc)
{
        return create(IVG_KIND_TEXTURE, pTexObject, pResDesc, pTexDesc, pResViewDesc);
}

CUresult cuTexObjectDestroy(CUtexObject texObject)
{
        return destroy(IVG_KIND_TEXTURE, texObject, ivg_send_cuTexObjectDestroy);
}

CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUtexObject texObject)
{
        return get_resource(IVG_KIND_TEXTURE, texObject, pResDesc, ivg_send_cuTexObjectGetResourceDesc);
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *pTexDesc, CUtexObject texObject)
{
        struct record record;
        const CUresult result = record_find(IVG_KIND_TEXTURE, texObject, &record);

        if (result == CUDA_SUCCESS && pTexDesc == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        return result != CUDA_SUCCESS ? result : ivg_send_cuTexObjectGetTextureDesc(record.object->id, pTexDesc);
}

CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *pResViewDesc, CUtexObject texObject)
{
        struct record record;
        const CUresult result = record_find(IVG_KIND_TEXTURE, texObject, &record);

        if (result == CUDA_SUCCESS && pResViewDesc == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        return result != CUDA_SUCCESS ? result
                                      : ivg_send_cuTexObjectGetResourceViewDesc(record.object->id, pResViewDesc);
}

CUresult cuSurfObjectCreate(CUsurfObject *pSurfObject, const CUDA_RESOURCE_DESC *pResDesc)
{
        return create(IVG_KIND_SURFACE, pSurfObject, pResDesc, NULL, NULL);
}

CUresult cuSurfObjectDestroy(CUsurfObject surfObject)
{
        return destroy(IVG_KIND_SURFACE, surfObject, ivg_send_cuSurfObjectDestroy);
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUsurfObject surfObject)
{
        return get_resource(IVG_KIND_SURFACE, surfObject, pResDesc, ivg_send_cuSurfObjectGetResourceDesc);
}
