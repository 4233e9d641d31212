/* Asking a running ivgpud over its control socket (hostexec/ivgpud/commands.h): one question, one answer. */
#ifndef IVG_CONTROL_CLIENT_H
#define IVG_CONTROL_CLIENT_H

#include <json-c/json.h>

#define IVG_CONTROL_SOCKET_STANDARD "/run/ivgpu/control.sock"
#define IVG_CONTROL_WORDS_BYTES 160u

/* Sends `request` to `path` and waits at most `silence_s` for each piece of the answer. *answer is the caller's to put,
 * whether it says "ok" or not; `line`, if not NULL, gets it as it came, to be freed. Fails with words that do not name
 * the path: -ENAMETOOLONG; -errno of connecting (-ENOENT, -ECONNREFUSED, -EACCES); -ETIMEDOUT no answer; -EPIPE closed
 * in the middle; -EPROTO no answer of ivgpud's; -ENOMEM. */
int ivg_control_ask(const char *path, unsigned int silence_s, struct json_object *request, struct json_object **answer,
                    char **line, char words[IVG_CONTROL_WORDS_BYTES]);
/* {"command": COMMAND, "object": OBJECT}; `object` may be NULL. */
struct json_object *ivg_control_request(const char *command, const char *object);

#endif
