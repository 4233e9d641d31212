/* Things of a module by name: functions, kernels, variables. See function.h. */
#include "function.h"
#include <stdlib.h>
#include <string.h>

static uint32_t bucket_of(const char *name)
{
        uint32_t hash = 2166136261u; /* FNV-1a */
        for (; *name != '\0'; name++)
                hash = (hash ^ (uint8_t)*name) * 16777619u;
        return hash % IVG_NAMES_BUCKETS;
}

void ivg_names_init(struct ivg_names *names)
{
        memset(names->buckets, 0, sizeof names->buckets);
        pthread_mutex_init(&names->lock, NULL);
}

struct ivg_name *ivg_names_find(struct ivg_names *names, const char *name, ivg_id context)
{
        struct ivg_name *entry = names->buckets[bucket_of(name)];
        while (entry != NULL && (entry->context != context || strcmp(entry->name, name) != 0))
                entry = entry->next;
        return entry;
}

struct ivg_name *ivg_names_add(struct ivg_names *names, const char *name, ivg_id context)
{
        const size_t bytes = strlen(name) + 1;
        struct ivg_name *entry = calloc(1, sizeof *entry + bytes);
        if (entry == NULL)
                return NULL;
        memcpy(entry->name, name, bytes);
        entry->context = context;
        struct ivg_name **bucket = &names->buckets[bucket_of(name)];
        entry->next = *bucket;
        *bucket = entry;
        return entry;
}

void ivg_names_end(struct ivg_names *names, void (*end)(struct ivg_name *name))
{
        for (uint32_t i = 0; i < IVG_NAMES_BUCKETS; i++) {
                while (names->buckets[i] != NULL) {
                        struct ivg_name *entry = names->buckets[i];
                        names->buckets[i] = entry->next;
                        if (end != NULL)
                                end(entry);
                        free(entry);
                }
        }
        pthread_mutex_destroy(&names->lock);
}

void ivg_object_destroy_if(struct ivg_object *object, ivg_id id)
{
        /* Relaxed: nobody else may use a module or library that is being unloaded. */
        if (object != NULL && ivg_load_relaxed_u32(&object->kind) != IVG_KIND_NONE && object->id == id)
                ivg_object_destroy(object);
}

void ivg_name_end_object(struct ivg_name *name)
{
        ivg_object_destroy_if(name->object, name->id);
}
