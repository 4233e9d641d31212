/* Asking a running ivgpud over its control socket (hostexec/ivgpud/commands.h): one question, one answer. */
#ifndef IVG_CONTROL_CLIENT_H
#define IVG_CONTROL_CLIENT_H

#include "ivgpu/fd_pass.h"
#include <json-c/json.h>

#define IVG_CONTROL_SOCKET_STANDARD "/run/ivgpu/control.sock"
#define IVG_CONTROL_WORDS_BYTES 160u

/* Sends `request` to `path` and waits at most `silence_s` for each piece of the answer. *answer is the caller's to put,
 * whether it says "ok" or not; `line`, if not NULL, gets it as it came, to be freed. Fails with words that do not name
 * the path: -ENAMETOOLONG; -errno of connecting (-ENOENT, -ECONNREFUSED, -EACCES); -ETIMEDOUT no answer; -EPIPE closed
 * in the middle; -EPROTO no answer of ivgpud's; -ENOMEM. */
int ivg_control_ask(const char *path, unsigned int silence_s, struct json_object *request, struct json_object **answer,
                    char **line, char words[IVG_CONTROL_WORDS_BYTES]);
/* The same for whoever asks more than once, or for descriptors. A connection (to be closed), or as above. */
int ivg_control_connect(const char *path, unsigned int silence_s, char words[IVG_CONTROL_WORDS_BYTES]);
struct ivg_control_reply {
        struct json_object *answer;
        char *line; /* as it came */
        uint32_t fd_count;
        int fds[IVG_FDS_PER_MESSAGE_MAX]; /* the caller's, who sets to -1 what he keeps */
};
/* One request and its answer over the connection, which is of no use any more when this fails. */
int ivg_control_exchange(int fd, struct json_object *request, struct ivg_control_reply *reply,
                         char words[IVG_CONTROL_WORDS_BYTES]);
/* Puts the answer, frees the line, closes the descriptors that were not kept. */
void ivg_control_reply_free(struct ivg_control_reply *reply);
/* NULL: the answer is "ok"; else the mediator's reason for saying no, as long as the answer is there. */
const char *ivg_control_refusal(struct json_object *answer);

/* {"command": COMMAND, "object": OBJECT}; `object` may be NULL. */
struct json_object *ivg_control_request(const char *command, const char *object);

/* Members of answers; what is not there, or of another type, is "-", 0, NULL. */
const char *ivg_json_text(struct json_object *object, const char *key);
uint64_t ivg_json_number(struct json_object *object, const char *key);
double ivg_json_real(struct json_object *object, const char *key);
struct json_object *ivg_json_object(struct json_object *object, const char *key);
struct json_object *ivg_json_array(struct json_object *object, const char *key);
size_t ivg_json_length(struct json_object *array); /* NULL: 0 */

#endif
