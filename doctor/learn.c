/* What several checks need to know, asked once. */
#include "control_client.h"
#include "doctor.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL_SOCKET_STANDARD "/run/ivgpu/local.sock"

const char *ivg_config_place(const struct ivg_doctor *doctor)
{
        return doctor->config_path ? doctor->config_path : IVG_CONFIG_STANDARD;
}

const struct ivg_config *ivg_learn_config(struct ivg_doctor *doctor)
{
        static struct ivg_config config;
        struct ivg_error error = {""};

        if (doctor->config_tried)
                return doctor->config;
        doctor->config_tried = true;
        ivg_config_init(&config);
        if (ivg_config_read(&config, ivg_config_place(doctor), &error) == 0 && ivg_config_finish(&config, &error) == 0)
                doctor->config = &config;
        snprintf(doctor->config_words, sizeof(doctor->config_words), "%s", error.text);
        return doctor->config;
}

const char *ivg_control_place(struct ivg_doctor *doctor)
{
        const struct ivg_config *config;

        if (doctor->control)
                return doctor->control;
        config = ivg_learn_config(doctor);
        if (config)
                return config->control.socket[0] != '\0' ? config->control.socket : NULL;
        return IVG_CONTROL_SOCKET_STANDARD;
}

const char *ivg_local_place(struct ivg_doctor *doctor)
{
        const struct ivg_config *config;

        if (doctor->local)
                return doctor->local;
        config = ivg_learn_config(doctor);
        if (config)
                return config->local.socket[0] != '\0' ? config->local.socket : NULL;
        return getenv("IVGPU_SOCKET") ? getenv("IVGPU_SOCKET") : LOCAL_SOCKET_STANDARD;
}

struct json_object *ivg_learn_list(struct ivg_doctor *doctor)
{
        const char *place = ivg_control_place(doctor);
        char words[IVG_CONTROL_WORDS_BYTES] = "";
        struct json_object *request;

        if (doctor->list_tried)
                return doctor->list;
        doctor->list_tried = true;
        if (!place) {
                doctor->list_rc = -EDESTADDRREQ;
                return NULL;
        }
        request = ivg_control_request("list", NULL);
        doctor->list_rc = ivg_control_ask(place, doctor->answer_s, request, &doctor->list, NULL, words);
        json_object_put(request);
        snprintf(doctor->list_words, sizeof(doctor->list_words), "%s", words);
        if (doctor->list && ivg_control_refusal(doctor->list)) {
                snprintf(doctor->list_words, sizeof(doctor->list_words), "%s", ivg_control_refusal(doctor->list));
                doctor->list_rc = -EPROTO;
                doctor->list = NULL;
        }
        return doctor->list;
}

static bool vm_is_meant(const struct ivg_doctor *doctor, const struct ivg_vm_config *vm)
{
        char number[16];

        snprintf(number, sizeof(number), "%u", vm->vm_id);
        return !doctor->vm || strcmp(doctor->vm, vm->name) == 0 || strcmp(doctor->vm, number) == 0;
}

const struct ivg_vm_config *ivg_next_vm(struct ivg_doctor *doctor, const struct ivg_vm_config *after, char name[64])
{
        const struct ivg_config *config = ivg_learn_config(doctor);

        for (uint32_t slot = after ? (uint32_t)(after - config->vms) + 1 : 0; config && slot < config->vm_count; slot++)
                if (ivg_config_has_vm(config, slot) && vm_is_meant(doctor, &config->vms[slot])) {
                        snprintf(name, 64, "VM %u (%s)", config->vms[slot].vm_id, config->vms[slot].name);
                        return &config->vms[slot];
                }
        return NULL;
}
