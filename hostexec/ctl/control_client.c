#include "control_client.h"
#include "json_add.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX (16u << 20) /* far above what 256 VMs give */

static int fail(char words[IVG_CONTROL_WORDS_BYTES], int rc, const char *text)
{
        snprintf(words, IVG_CONTROL_WORDS_BYTES, "%s", text);
        return rc;
}

int ivg_control_connect(const char *path, unsigned int silence_s, char words[IVG_CONTROL_WORDS_BYTES])
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const struct timeval patience = {.tv_sec = silence_s};
        int fd, rc;

        if (strlen(path) >= sizeof(address.sun_path)) {
                snprintf(words, IVG_CONTROL_WORDS_BYTES, "a socket's path has at most %zu bytes",
                         sizeof(address.sun_path) - 1);
                return -ENAMETOOLONG;
        }
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return fail(words, -errno, strerror(errno));
        /* Before connecting: that waits too when the mediator does not accept. */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        rc = errno == EAGAIN ? -ETIMEDOUT : -errno;
        close(fd);
        return fail(words, rc, strerror(-rc));
}

static int request_send(int fd, struct json_object *request, char words[IVG_CONTROL_WORDS_BYTES])
{
        size_t bytes;
        const char *text = json_object_to_json_string_length(request, JSON_C_TO_STRING_PLAIN, &bytes);

        if (send(fd, text, bytes, MSG_NOSIGNAL) != (ssize_t)bytes || send(fd, "\n", 1, MSG_NOSIGNAL) != 1)
                return fail(words, -EPIPE, "takes no request");
        return 0;
}

/* As read(), with descriptors. Waits as long as the socket does. */
static ssize_t piece_read(int fd, struct ivg_control_reply *reply, void *to, size_t room)
{
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        int fds[IVG_FDS_PER_MESSAGE_MAX];
        struct timeval patience = {0};
        socklen_t patience_bytes = sizeof(patience);
        uint32_t count;
        long bytes;

        getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, &patience_bytes);
        if (poll(&readable, 1, (int)(patience.tv_sec * 1000)) == 0)
                return -EAGAIN;
        bytes = ivg_fds_receive(fd, to, room, fds, &count);
        for (uint32_t i = 0; i < count; i++) {
                if (reply->fd_count < IVG_FDS_PER_MESSAGE_MAX)
                        reply->fds[reply->fd_count++] = fds[i];
                else
                        close(fds[i]);
        }
        return bytes;
}

static int line_read(int fd, struct ivg_control_reply *reply, char words[IVG_CONTROL_WORDS_BYTES])
{
        size_t capacity = 65536, used = 0;
        char *more, *end = NULL;

        reply->line = malloc(capacity);
        while (reply->line && !end) {
                const ssize_t bytes = piece_read(fd, reply, reply->line + used, capacity - used - 1);

                if (bytes == 0)
                        return fail(words, -EPIPE, "has closed the connection");
                if (bytes < 0)
                        return fail(words, -ETIMEDOUT, "does not answer");
                used += (size_t)bytes;
                reply->line[used] = '\0';
                end = memchr(reply->line, '\n', used);
                if (end || used + 1 < capacity)
                        continue;
                more = capacity < ANSWER_BYTES_MAX ? realloc(reply->line, capacity *= 2) : NULL;
                if (!more)
                        return fail(words, -EPROTO, "its answer has no end");
                reply->line = more;
        }
        if (!reply->line)
                return fail(words, -ENOMEM, "no memory for its answer");
        *end = '\0';
        return 0;
}

int ivg_control_exchange(int fd, struct json_object *request, struct ivg_control_reply *reply,
                         char words[IVG_CONTROL_WORDS_BYTES])
{
        int rc;

        *reply = (struct ivg_control_reply){0};
        rc = request_send(fd, request, words);
        if (rc == 0)
                rc = line_read(fd, reply, words);
        if (rc == 0) {
                reply->answer = json_tokener_parse(reply->line);
                if (!json_object_is_type(reply->answer, json_type_object) ||
                    !json_object_object_get_ex(reply->answer, "ok", NULL))
                        rc = fail(words, -EPROTO, "its answer is none");
        }
        if (rc < 0)
                ivg_control_reply_free(reply);
        return rc;
}

void ivg_control_reply_free(struct ivg_control_reply *reply)
{
        for (uint32_t i = 0; i < reply->fd_count; i++)
                if (reply->fds[i] >= 0)
                        close(reply->fds[i]);
        json_object_put(reply->answer);
        free(reply->line);
        *reply = (struct ivg_control_reply){0};
}

const char *ivg_control_refusal(struct json_object *answer)
{
        struct json_object *ok, *error;

        if (json_object_object_get_ex(answer, "ok", &ok) && json_object_get_boolean(ok))
                return NULL;
        return json_object_object_get_ex(answer, "error", &error) ? json_object_get_string(error) : "refused";
}

int ivg_control_ask(const char *path, unsigned int silence_s, struct json_object *request, struct json_object **answer,
                    char **line, char words[IVG_CONTROL_WORDS_BYTES])
{
        const int fd = ivg_control_connect(path, silence_s, words);
        struct ivg_control_reply reply;
        int rc = fd;

        if (fd < 0)
                return rc;
        rc = ivg_control_exchange(fd, request, &reply, words);
        close(fd);
        if (rc < 0)
                return rc;
        *answer = json_object_get(reply.answer);
        if (line) {
                *line = reply.line;
                reply.line = NULL;
        }
        ivg_control_reply_free(&reply);
        return 0;
}

struct json_object *ivg_control_request(const char *command, const char *object)
{
        struct json_object *request = json_object_new_object();

        ivg_json_add_text(request, "command", command);
        if (object)
                ivg_json_add_text(request, "object", object);
        return request;
}

/* ---- reading answers ---- */

static struct json_object *value_of(struct json_object *object, const char *key)
{
        struct json_object *value;

        return json_object_is_type(object, json_type_object) && json_object_object_get_ex(object, key, &value) ? value
                                                                                                               : NULL;
}

const char *ivg_json_text(struct json_object *object, const char *key)
{
        struct json_object *value = value_of(object, key);

        return value ? json_object_get_string(value) : "-";
}

uint64_t ivg_json_number(struct json_object *object, const char *key)
{
        struct json_object *value = value_of(object, key);

        return value ? json_object_get_uint64(value) : 0;
}

double ivg_json_real(struct json_object *object, const char *key)
{
        struct json_object *value = value_of(object, key);

        return value ? json_object_get_double(value) : 0;
}

struct json_object *ivg_json_object(struct json_object *object, const char *key)
{
        struct json_object *value = value_of(object, key);

        return json_object_is_type(value, json_type_object) ? value : NULL;
}

struct json_object *ivg_json_array(struct json_object *object, const char *key)
{
        struct json_object *value = value_of(object, key);

        return json_object_is_type(value, json_type_array) ? value : NULL;
}

size_t ivg_json_length(struct json_object *array)
{
        return array ? json_object_array_length(array) : 0;
}
