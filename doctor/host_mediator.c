/* The configuration, the mediator, and what it says about its VMs. */
#include "control_client.h"
#include "doctor.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void ivg_check_configuration(struct ivg_doctor *doctor)
{
        const char *place = ivg_config_place(doctor);
        const struct ivg_config *config = ivg_learn_config(doctor);
        unsigned int pools = 0, vms = 0;

        if (!config && access(place, R_OK) < 0 && errno == EACCES) {
                ivg_seen(doctor, "%s may not be read by this user", place);
                ivg_remedy(doctor, "run ivgpu-doctor as root");
                ivg_conclude(doctor, IVG_UNKNOWN, NULL, "");
                return;
        }
        if (!config && access(place, F_OK) < 0) {
                ivg_seen(doctor, "no file %s", place);
                ivg_remedy(doctor,
                           "copy ivgpud.conf.example there and enter this machine's VMs, or name your file with "
                           "--config FILE");
                ivg_conclude(doctor, IVG_BAD, "configuration-absent", "");
                return;
        }
        if (!config) {
                ivg_seen(doctor, "%s", doctor->config_words);
                ivg_remedy(doctor, "correct that line: ivgpud takes the file as a whole or not at all; then \"ivgpuctl "
                                   "reload\", or start ivgpud");
                ivg_conclude(doctor, IVG_BAD, "configuration-mistake", "");
                return;
        }
        for (uint32_t i = 0; i < config->pool_count; i++)
                pools += ivg_config_has_pool(config, i);
        for (uint32_t i = 0; i < config->vm_count; i++)
                vms += ivg_config_has_vm(config, i);
        if (doctor->vm && !ivg_next_vm(doctor, NULL, (char[64]){""})) {
                ivg_seen(doctor, "%s has no VM %s", place, doctor->vm);
                ivg_remedy(doctor, "add it to \"vms\" and \"ivgpuctl reload\", or name one of those there are");
                ivg_conclude(doctor, IVG_BAD, "configuration-lacks-vm", "");
                return;
        }
        ivg_seen(doctor, "%s: %u pools, %u VMs, driver %s", place, pools, vms,
                 config->device == IVG_DEVICE_SOFT ? "soft GPU" : "CUDA");
        ivg_conclude(doctor, IVG_OK, NULL, "");
}

/* ---- the mediator ---- */

/* `pid`: an ivgpud that runs; 0: none is to be seen. */
static void mediator_unreached(struct ivg_doctor *doctor, const char *place, pid_t pid, char state)
{
        switch (doctor->list_rc) {
        case -EACCES:
        case -EPERM:
                ivg_seen(doctor, "%s: this user may not connect", place);
                ivg_remedy(doctor, "run ivgpu-doctor as root, or as a member of the socket's group");
                ivg_conclude(doctor, IVG_UNKNOWN, NULL, "");
                return;
        case -ECONNREFUSED:
                ivg_seen(doctor, "%s is there and nobody listens: its ivgpud has died", place);
                ivg_remedy(doctor,
                           "see why: journalctl -u ivgpud -n 50; start it: systemctl restart ivgpud (it replaces "
                           "what the dead one left). VMs that run must be attached again: QEMU does not reconnect");
                ivg_conclude(doctor, IVG_BAD, "mediator-dead", "");
                return;
        case -ETIMEDOUT:
                if (pid == 0) {
                        ivg_seen(doctor,
                                 "%s: no answer within %u s, and no ivgpud: systemd holds the socket and the "
                                 "service does not start",
                                 place, doctor->answer_s);
                        ivg_remedy(doctor,
                                   "systemctl status ivgpud; journalctl -u ivgpud -n 20 says what it refuses; then: "
                                   "systemctl reset-failed ivgpud; systemctl start ivgpud");
                        ivg_conclude(doctor, IVG_BAD, "mediator-does-not-start", "");
                        return;
                }
                if (state == 'T' || state == 't') {
                        ivg_seen(doctor, "%s: no answer within %u s; ivgpud (process %d) is stopped", place,
                                 doctor->answer_s, (int)pid);
                        ivg_remedy(doctor, "let it go on: kill -CONT %d (a signal or a debugger has stopped it)",
                                   (int)pid);
                } else {
                        ivg_seen(doctor, "%s: no answer within %u s from ivgpud (process %d, state %c)", place,
                                 doctor->answer_s, (int)pid, state ? state : '?');
                        ivg_remedy(doctor,
                                   "it hangs: keep its stack (gdb -p %d -batch -ex bt), then systemctl restart "
                                   "ivgpud; programs that run end with error 3",
                                   (int)pid);
                }
                ivg_conclude(doctor, IVG_BAD, "mediator-hangs", "");
                return;
        case -EPIPE:
        case -EPROTO:
                ivg_seen(doctor, "%s: what listens there is no ivgpud, or of another version: %s", place,
                         doctor->list_words);
                ivg_remedy(doctor,
                           "name ivgpud's own control socket with --control, or install one version of all parts");
                ivg_conclude(doctor, IVG_BAD, "mediator-strange", "");
                return;
        default:
                break;
        }
        if (pid != 0) {
                ivg_seen(doctor, "ivgpud (process %d) runs without the control socket %s", (int)pid, place);
                ivg_remedy(doctor, "the group \"control\" holds from ivgpud's next start: systemctl restart ivgpud; or "
                                   "name the socket that it has with --control");
                ivg_conclude(doctor, IVG_BAD, "control-absent", "");
                return;
        }
        ivg_seen(doctor, "%s: %s; no process ivgpud", place, doctor->list_words);
        ivg_remedy(doctor,
                   "start it: systemctl start ivgpud, or: ivgpud --config %s; if it ends at once, the last line "
                   "of its log says why",
                   ivg_config_place(doctor));
        ivg_conclude(doctor, IVG_BAD, "mediator-absent", "");
}

void ivg_check_mediator(struct ivg_doctor *doctor)
{
        const char *place = ivg_control_place(doctor);
        struct json_object *list = ivg_learn_list(doctor), *members;
        char state = 0;
        const pid_t pid = ivg_mediator_process(doctor, &state);

        if (list && json_object_object_get_ex(list, "members", &members)) {
                ivg_seen(doctor, "ivgpud (process %d) answers on %s", (int)pid, place);
                ivg_conclude(doctor, IVG_OK, NULL, "");
        } else if (place) {
                mediator_unreached(doctor, place, pid, state);
        } else if (pid != 0) {
                ivg_seen(doctor,
                         "ivgpud (process %d) runs; the configuration has no group \"control\" to ask it through",
                         (int)pid);
                ivg_remedy(doctor, "add control = { socket = \"%s\"; }; and restart ivgpud",
                           IVG_CONTROL_SOCKET_STANDARD);
                ivg_conclude(doctor, IVG_UNKNOWN, NULL, "");
        } else {
                snprintf(doctor->list_words, sizeof(doctor->list_words), "not configured");
                mediator_unreached(doctor, "control socket", 0, 0);
        }
}

/* ---- VMs as the mediator has them ---- */

static void faults_describe(struct ivg_doctor *doctor, const char *object, char words[256])
{
        struct json_object *request = ivg_control_request("show", object), *answer = NULL, *faults;
        char ignored[IVG_CONTROL_WORDS_BYTES];
        size_t used = 0;

        words[0] = '\0';
        if (ivg_control_ask(ivg_control_place(doctor), doctor->answer_s, request, &answer, NULL, ignored) == 0) {
                if (json_object_object_get_ex(answer, "faults", &faults)) {
                        json_object_object_foreach(faults, kind, count)
                        {
                                if (json_object_get_int64(count) > 0 && used < 200)
                                        used += (size_t)snprintf(words + used, 256 - used, "%s%s %lld",
                                                                 used ? ", " : "", kind,
                                                                 (long long)json_object_get_int64(count));
                        }
                }
                json_object_put(answer);
        }
        json_object_put(request);
        if (used == 0)
                snprintf(words, 256, "none; an operator did it");
}

static void member_judge(struct ivg_doctor *doctor, struct json_object *member)
{
        const char *state = ivg_json_text(member, "state");
        const uint64_t programs = ivg_json_number(member, "programs"),
                       executors_max = ivg_json_number(member, "executors_max");
        char object[64], key[24] = "local", words[256];

        if (strcmp(ivg_json_text(member, "kind"), "vm") == 0) {
                snprintf(key, sizeof(key), "%u", (unsigned int)ivg_json_number(member, "vm_id"));
                snprintf(object, sizeof(object), "VM %s (%s)", key, ivg_json_text(member, "name"));
        } else {
                snprintf(object, sizeof(object), "local programs");
        }
        if (strcmp(state, "quarantined") == 0) {
                faults_describe(doctor, key, words);
                ivg_seen(doctor, "in quarantine: its programs end with error 11 (VM_QUARANTINED); faults: %s", words);
                ivg_remedy(doctor,
                           "mend what the log names (journalctl -u ivgpud | grep WATCHDOG), then: ivgpuctl release "
                           "%s",
                           key);
                ivg_conclude(doctor, IVG_BAD, "vm-quarantined", object);
        } else if (strcmp(state, "running") != 0) {
                ivg_seen(doctor, "%s by an operator: %s", state,
                         strcmp(state, "paused") == 0 ? "its programs stand still" : "none of its programs starts");
                ivg_remedy(doctor, "ivgpuctl resume %s", key);
                ivg_conclude(doctor, IVG_BAD, strcmp(state, "paused") == 0 ? "vm-paused" : "vm-draining", object);
        } else if (executors_max > 0 && programs >= executors_max) {
                ivg_seen(doctor, "%llu programs run, executors_max is %llu: the next gets error 7 (QUEUE_FULL)",
                         (unsigned long long)programs, (unsigned long long)executors_max);
                ivg_remedy(doctor, "end one (ivgpuctl show %s), or: ivgpuctl set %s executors_max=%llu", key, key,
                           (unsigned long long)executors_max * 2);
                ivg_conclude(doctor, IVG_BAD, "vm-full", object);
        } else {
                ivg_seen(doctor, "running in pool %s, %llu programs", ivg_json_text(member, "pool"),
                         (unsigned long long)programs);
                ivg_conclude(doctor, IVG_OK, NULL, object);
        }
}

static bool member_is(struct json_object *member, const char *kind, uint32_t vm_id)
{
        return strcmp(ivg_json_text(member, "kind"), kind) == 0 &&
               (kind[0] != 'v' || ivg_json_number(member, "vm_id") == vm_id);
}

/* The member that the mediator has; NULL: it does not know it. */
static struct json_object *member_find(struct json_object *members, const char *kind, uint32_t vm_id)
{
        for (size_t i = 0; i < json_object_array_length(members); i++)
                if (member_is(json_object_array_get_idx(members, i), kind, vm_id))
                        return json_object_array_get_idx(members, i);
        return NULL;
}

void ivg_check_state(struct ivg_doctor *doctor)
{
        struct json_object *list = ivg_learn_list(doctor), *members, *member;
        const struct ivg_vm_config *vm = NULL;
        char name[64];

        if (!list || !json_object_object_get_ex(list, "members", &members)) {
                ivg_seen(doctor, "the mediator cannot be asked");
                ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
                return;
        }
        while ((vm = ivg_next_vm(doctor, vm, name)) != NULL) {
                member = member_find(members, "vm", vm->vm_id);
                if (member) {
                        member_judge(doctor, member);
                        continue;
                }
                ivg_seen(doctor, "stands in %s; the running ivgpud does not have it", ivg_config_place(doctor));
                ivg_remedy(doctor, "the file was changed after ivgpud read it: ivgpuctl reload");
                ivg_conclude(doctor, IVG_BAD, "configuration-not-read", name);
        }
        member = member_find(members, "local", 0);
        if (member && !doctor->vm && ivg_local_place(doctor))
                member_judge(doctor, member);
}
