#include "command_request.h"
#include "ivgpu/number.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_PREFIX "pool:" /* before a pool's name, where both a VM and a pool can stand */

static int find_member(struct request *request, const char *name)
{
        struct ivg_mediator *mediator = request->mediator;
        struct ivg_member *member = NULL;
        uint64_t number = 0;
        const bool is_number = ivg_number_read(name, 0, UINT64_MAX, &number);

        while ((member = ivg_member_next(mediator, member)) != NULL) {
                const struct ivg_vm_config *vm =
                        member->slot < IVG_VMS_MAX ? &mediator->config.vms[member->slot] : NULL;

                if (!vm ? strcmp(name, "local") == 0 : is_number ? number == vm->vm_id : strcmp(name, vm->name) == 0) {
                        request->member = member;
                        return 0;
                }
        }
        ivg_error_set(&request->error, "unknown VM %.60s", name);
        return -ENOENT;
}

/* ---- list, show ---- */

void ivg_command_add_identity(struct json_object *object, const struct ivg_member *member)
{
        const struct ivg_config *config = &member->mediator->config;
        const bool is_vm = member->slot < IVG_VMS_MAX;

        ivg_json_add_text(object, "kind", is_vm ? "vm" : "local");
        if (is_vm)
                ivg_json_add_number(object, "vm_id", config->vms[member->slot].vm_id);
        ivg_json_add_text(object, "name", is_vm ? config->vms[member->slot].name : "local");
        ivg_json_add_text(object, "pool", config->pools[ivg_member_pool(member)].name);
        ivg_json_add_text(object, "state", ivg_member_state(member));
        ivg_json_add_number(object, "programs", member->executors_alive);
}

static void add_limits(struct json_object *object, const struct ivg_limits *limits)
{
        for (const struct ivg_limit *limit = ivg_limit_table; limit->name; limit++) {
                const uint32_t value = ivg_limit_get(limits, limit);

                if (limit->words)
                        ivg_json_add_text(object, limit->name, limit->words[value]);
                else
                        ivg_json_add_number(object, limit->name, value);
        }
}

static void add_pool(struct json_object *object, struct ivg_mediator *mediator, uint32_t pool)
{
        const struct ivg_pool_config *config = &mediator->config.pools[pool];
        struct json_object *gpus;

        ivg_json_add_text(object, "name", config->name);
        gpus = ivg_json_add_new(object, "gpus", json_object_new_array());
        for (uint32_t i = 0; i < config->gpu_count; i++)
                json_object_array_add(gpus, json_object_new_int((int)config->gpus[i]));
        ivg_json_add_text(object, "policy", ivg_policy_words[ivg_sched_policy(mediator, pool)]);
        ivg_json_add_text(object, "mps", ivg_mps_word(mediator, pool));
        if (ivg_mps_is_used(mediator, pool)) {
                ivg_json_add_number(object, "mps_daemons_lost", mediator->mps[pool].daemon_losses);
                ivg_json_add_number(object, "mps_servers_lost", mediator->mps[pool].server_losses);
        }
        ivg_json_add_number(object, "executors_waiting", ivg_warm_count(mediator, pool, IVG_EXECUTOR_WAITING));
}

static int command_list(struct request *request)
{
        struct ivg_mediator *mediator = request->mediator;
        struct json_object *pools = ivg_json_add_new(request->answer, "pools", json_object_new_array());
        struct json_object *members = ivg_json_add_new(request->answer, "members", json_object_new_array());

        for (uint32_t i = 0; i < mediator->config.pool_count; i++) {
                struct json_object *object;

                if (!ivg_config_has_pool(&mediator->config, i))
                        continue;
                object = json_object_new_object();
                json_object_array_add(pools, object);
                add_pool(object, mediator, i);
        }
        for (struct ivg_member *member = NULL; (member = ivg_member_next(mediator, member)) != NULL;) {
                struct json_object *object = json_object_new_object();

                json_object_array_add(members, object);
                ivg_command_add_identity(object, member);
                add_limits(object, member->limits);
        }
        return 0;
}

const char *ivg_command_phase_word(const struct ivg_executor *executor)
{
        static const char *const words[] = {
                [IVG_EXECUTOR_STARTING] = "starting", [IVG_EXECUTOR_WARMING] = "warming",
                [IVG_EXECUTOR_WAITING] = "waiting",   [IVG_EXECUTOR_READY] = "ready",
                [IVG_EXECUTOR_TERM] = "ending",       [IVG_EXECUTOR_KILL] = "killed",
        };

        return words[executor->phase];
}

static void add_executors(struct json_object *array, const struct ivg_member *member)
{
        for (const struct ivg_tenant *tenant = member->mediator->tenants; tenant; tenant = tenant->next)
                for (uint32_t i = 0; tenant->member == member && i < tenant->region.channel_count; i++) {
                        const struct ivg_executor *executor = tenant->channels[i].executor;
                        struct json_object *object;

                        if (!executor)
                                continue;
                        object = json_object_new_object();
                        json_object_array_add(array, object);
                        ivg_json_add_text(object, "of", tenant->name);
                        ivg_json_add_number(object, "channel", i);
                        ivg_json_add_number(object, "pid", (uint64_t)executor->pid);
                        ivg_json_add_text(object, "phase", ivg_command_phase_word(executor));
                }
}

/* How the VM's next QEMU finds it: what "ivgpuctl attach" needs. */
static void add_attachment(struct json_object *object, const struct ivg_vm *vm)
{
        if (vm->config->socket[0] != '\0')
                ivg_json_add_text(object, "socket", vm->config->socket);
        ivg_json_add_number(object, "region_mib", vm->config->region_mib);
        ivg_json_add_number(object, "channels", vm->config->channels);
        ivg_json_add_number(object, "vectors", vm->config->vectors);
        ivg_json_add_bool(object, "qemu", vm->tenant != NULL);
}

static int command_show(struct request *request)
{
        const struct ivg_member *member = request->member;
        struct json_object *faults;

        ivg_command_add_identity(request->answer, member);
        if (member->slot < IVG_VMS_MAX)
                add_attachment(request->answer, &member->mediator->vms[member->slot]);
        if (member->quarantined && member->quarantine_end_ms != UINT64_MAX) {
                const uint64_t now_ms = ivg_loop_now_ms();

                ivg_json_add_number(
                        request->answer, "quarantine_s_left",
                        member->quarantine_end_ms > now_ms ? (member->quarantine_end_ms - now_ms + 999) / 1000 : 0);
        }
        add_limits(ivg_json_add_new(request->answer, "limits", json_object_new_object()), member->limits);
        faults = ivg_json_add_new(request->answer, "faults", json_object_new_object());
        for (uint32_t i = 0; i < IVG_FAULT_KINDS; i++)
                ivg_json_add_number(faults, ivg_fault_kind_name((enum ivg_fault_kind)i), member->fault_counts[i]);
        add_executors(ivg_json_add_new(request->answer, "executors", json_object_new_array()), member);
        return 0;
}

/* ---- what changes something ---- */

/* What of a pool can be set: as limits of VMs, but in its configuration. */
static const struct ivg_limit pool_settings[] = {
        {"policy", offsetof(struct ivg_pool_config, policy), 0, IVG_POLICY_FAIR, 0, ivg_policy_words},
        {"warm_executors", offsetof(struct ivg_pool_config, warm_executors), 0, IVG_WARM_EXECUTORS_MAX, 0, NULL},
        {NULL, 0, 0, 0, 0, NULL},
};

static int set_of_pool(struct request *request, const char *name)
{
        const char *key = get_text(request, "key"), *text = get_text(request, "value");
        const struct ivg_limit *setting = pool_settings;
        struct ivg_mediator *mediator = request->mediator;
        uint32_t pool = 0, value;
        int rc;

        while (pool < mediator->config.pool_count && strcmp(mediator->config.pools[pool].name, name) != 0)
                pool++;
        if (pool == mediator->config.pool_count || name[0] == '\0') {
                ivg_error_set(&request->error, "unknown pool %.60s", name);
                return -ENOENT;
        }
        while (setting->name && key && strcmp(setting->name, key) != 0)
                setting++;
        if (!setting->name || !key || !text) {
                ivg_error_set(&request->error, "\"%.40s\" is nothing of a pool that can be set", key ? key : "");
                return -EINVAL;
        }
        rc = ivg_limit_parse(setting, text, &value, &request->error);
        if (rc < 0)
                return rc;
        *(uint32_t *)(void *)((char *)&mediator->config.pools[pool] + setting->offset) = value;
        ivg_sched_policy_changed(mediator, pool);
        ivg_warm_tick(mediator, ivg_loop_now_ms());
        return 0;
}

static int set_of_member(struct request *request)
{
        const char *key = get_text(request, "key"), *text = get_text(request, "value");
        const struct ivg_limit *limit = key ? ivg_limit_find(key) : NULL;
        struct ivg_config *config = &request->mediator->config;
        const uint32_t slot = request->member->slot;
        uint32_t value;
        int rc;

        if (!limit || !text) {
                ivg_error_set(&request->error, "\"%.40s\" is no limit that can be set", key ? key : "");
                return -EINVAL;
        }
        rc = ivg_limit_parse(limit, text, &value, &request->error);
        if (rc < 0)
                return rc;
        ivg_limit_set(slot < IVG_VMS_MAX ? &config->vms[slot].limits : &config->local.limits, limit, value);
        ivg_member_limits_changed(request->member);
        return 0;
}

static int command_set(struct request *request)
{
        return request->member ? set_of_member(request)
                               : set_of_pool(request, get_text(request, "object") + strlen(POOL_PREFIX));
}

static int command_pause(struct request *request)
{
        request->member->paused = true;
        ivg_member_limits_changed(request->member);
        return 0;
}

static int command_resume(struct request *request)
{
        struct ivg_member *member = request->member;

        if (member->slot < IVG_VMS_MAX && request->mediator->vms[member->slot].removed) {
                ivg_error_set(&request->error, "%s is no longer configured: it ends with its last program",
                              member->name);
                return -EBUSY;
        }
        member->paused = member->draining = false;
        ivg_member_limits_changed(member);
        return 0;
}

static int command_drain(struct request *request)
{
        request->member->draining = true;
        ivg_json_add_number(request->answer, "programs", request->member->executors_alive);
        return 0;
}

static int command_quarantine(struct request *request)
{
        uint32_t seconds = request->member->limits->quarantine_s;
        int rc = get_number(request, "seconds", 86400, &seconds);

        if (rc < 0 && rc != -ENOENT)
                return rc;
        ivg_member_quarantine(request->member, seconds, "ivgpuctl");
        return 0;
}

static int command_release(struct request *request)
{
        if (!request->member->quarantined) {
                ivg_error_set(&request->error, "%s is not in quarantine", request->member->name);
                return -EALREADY;
        }
        ivg_member_release(request->member, "ivgpuctl");
        return 0;
}

static int command_kill(struct request *request)
{
        const struct ivg_member *member = request->member;
        uint32_t pid = 0, killed = 0;
        int rc = get_number(request, "pid", INT32_MAX, &pid);

        if (rc < 0 && rc != -ENOENT)
                return rc;
        for (struct ivg_tenant *tenant = request->mediator->tenants; tenant; tenant = tenant->next)
                for (uint32_t i = 0; tenant->member == member && i < tenant->region.channel_count; i++) {
                        const struct ivg_executor *executor = tenant->channels[i].executor;

                        if (!executor || (pid != 0 && (uint32_t)executor->pid != pid))
                                continue;
                        ivg_channel_stop(&tenant->channels[i], IVG_ERROR_MEDIATOR_UNAVAILABLE);
                        killed++;
                }
        if (pid != 0 && killed == 0) {
                ivg_error_set(&request->error, "%s has no executor %u", member->name, pid);
                return -ESRCH;
        }
        ivg_json_add_number(request->answer, "killed", killed);
        return 0;
}

static int command_reload(struct request *request)
{
        return ivg_reload(request->mediator, &request->error);
}

/* ---- one request ---- */

enum object_use { OBJECT_NONE, OBJECT_MAY, OBJECT_MUST, OBJECT_OR_POOL };
enum right { RIGHT_NONE, RIGHT_SEE, RIGHT_CHANGE }; /* both are of few; what is done with one is logged */

static const struct command {
        const char *name;
        enum object_use object;
        enum right right;
        int (*run)(struct request *request);
} commands[] = {
        {"list", OBJECT_NONE, RIGHT_NONE, command_list},
        {"show", OBJECT_MUST, RIGHT_NONE, command_show},
        {"stats", OBJECT_MAY, RIGHT_NONE, ivg_command_stats},
        {"programs", OBJECT_MAY, RIGHT_NONE, ivg_command_programs},
        {"regions", OBJECT_MAY, RIGHT_SEE, ivg_command_regions},
        {"trace", OBJECT_MUST, RIGHT_SEE, ivg_command_trace},
        {"set", OBJECT_OR_POOL, RIGHT_CHANGE, command_set},
        {"pause", OBJECT_MUST, RIGHT_CHANGE, command_pause},
        {"resume", OBJECT_MUST, RIGHT_CHANGE, command_resume},
        {"drain", OBJECT_MUST, RIGHT_CHANGE, command_drain},
        {"quarantine", OBJECT_MUST, RIGHT_CHANGE, command_quarantine},
        {"release", OBJECT_MUST, RIGHT_CHANGE, command_release},
        {"kill", OBJECT_MUST, RIGHT_CHANGE, command_kill},
        {"reload", OBJECT_NONE, RIGHT_CHANGE, command_reload},
        {NULL, OBJECT_NONE, RIGHT_NONE, NULL},
};

static int run_for_object(struct request *request, const struct command *command, const char *object)
{
        int rc = 0;

        if (command->object >= OBJECT_MUST && !object) {
                ivg_error_set(&request->error, "\"object\" is missing: a VM's number or name, or \"local\"");
                return -EINVAL;
        }
        if (command->object == OBJECT_OR_POOL && strncmp(object, POOL_PREFIX, strlen(POOL_PREFIX)) == 0)
                return command->run(request);
        if (command->object != OBJECT_NONE && object)
                rc = find_member(request, object);
        return rc < 0 ? rc : command->run(request);
}

static int run(struct request *request)
{
        const char *name = request->json ? get_text(request, "command") : NULL;
        const struct command *command = commands;
        const char *object, *key, *value;
        int rc;

        if (!name) {
                ivg_error_set(&request->error, "not a request: a JSON object with \"command\" is expected");
                return -EINVAL;
        }
        while (command->name && strcmp(command->name, name) != 0)
                command++;
        if (!command->name) {
                ivg_error_set(&request->error, "unknown command \"%.40s\"", name);
                return -EINVAL;
        }
        if (command->right != RIGHT_NONE && !request->asker->may_change) {
                ivg_error_set(&request->error,
                              "%s: you may look only: root, \"user\" and \"group\" of \"control\" may %s", name,
                              command->right == RIGHT_SEE ? "see programs' memory" : "change things");
                return -EPERM;
        }
        object = get_text(request, "object");
        rc = run_for_object(request, command, object);
        key = get_text(request, "key");
        value = get_text(request, "value");
        if (command->right != RIGHT_NONE && !request->goes_on)
                ivg_log(IVG_EVENT_CONTROL, IVG_ABOUT_NOBODY, "[CONTROL] process %d: %s %.60s %.40s %.40s: %s",
                        (int)request->asker->pid, name, object ? object : "", key ? key : "", value ? value : "",
                        rc < 0 ? request->error.text : "done");
        return rc;
}

static void descriptors_close(struct ivg_command_answer *answer)
{
        while (answer->fd_count > 0)
                close(answer->fds[--answer->fd_count]);
}

bool ivg_command_run(struct ivg_mediator *mediator, const char *line, const struct ivg_command_asker *asker,
                     struct ivg_command_answer *answer)
{
        struct request request = {.mediator = mediator,
                                  .json = json_tokener_parse(line),
                                  .answer = json_object_new_object(),
                                  .out = answer,
                                  .asker = asker};
        const char *text = NULL;
        size_t bytes;

        *answer = (struct ivg_command_answer){0};
        if (request.json && !json_object_is_type(request.json, json_type_object)) {
                json_object_put(request.json);
                request.json = NULL;
        }
        if (run(&request) < 0) {
                descriptors_close(answer);
                json_object_put(request.answer);
                request.answer = json_object_new_object();
                ivg_json_add_bool(request.answer, "ok", false);
                ivg_json_add_text(request.answer, "error", request.error.text);
        } else {
                ivg_json_add_bool(request.answer, "ok", true);
        }
        text = json_object_to_json_string_length(request.answer, JSON_C_TO_STRING_PLAIN, &bytes);
        answer->text = text ? malloc(bytes + 2) : NULL;
        if (answer->text) {
                memcpy(answer->text, text, bytes);
                memcpy(answer->text + bytes, "\n", 2);
                answer->bytes = bytes + 1;
        }
        json_object_put(request.answer);
        json_object_put(request.json);
        if (!answer->text)
                descriptors_close(answer);
        return answer->text != NULL;
}

void ivg_command_answer_free(struct ivg_command_answer *answer)
{
        descriptors_close(answer);
        free(answer->text);
        answer->text = NULL;
}
