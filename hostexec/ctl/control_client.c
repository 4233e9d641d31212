#include "control_client.h"
#include <errno.h>
#include <stdbool.h>
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

static int connect_to(const char *path, unsigned int silence_s, char words[IVG_CONTROL_WORDS_BYTES])
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

static int line_read(int fd, char **line, char words[IVG_CONTROL_WORDS_BYTES])
{
        size_t capacity = 65536, used = 0;
        char *text = malloc(capacity), *more, *end = NULL;
        int rc = 0;

        while (text && !end && rc == 0) {
                const ssize_t bytes = read(fd, text + used, capacity - used - 1);

                if (bytes < 0 && errno == EINTR)
                        continue;
                if (bytes <= 0) {
                        rc = bytes == 0 ? fail(words, -EPIPE, "has closed the connection")
                                        : fail(words, -ETIMEDOUT, "does not answer");
                        break;
                }
                used += (size_t)bytes;
                text[used] = '\0';
                end = memchr(text, '\n', used);
                if (end || used + 1 < capacity)
                        continue;
                more = capacity < ANSWER_BYTES_MAX ? realloc(text, capacity *= 2) : NULL;
                if (!more)
                        rc = fail(words, -EPROTO, "its answer has no end");
                else
                        text = more;
        }
        if (rc == 0 && !text)
                rc = fail(words, -ENOMEM, "no memory for its answer");
        if (rc < 0) {
                free(text);
                return rc;
        }
        *end = '\0';
        *line = text;
        return 0;
}

int ivg_control_ask(const char *path, unsigned int silence_s, struct json_object *request, struct json_object **answer,
                    char **line, char words[IVG_CONTROL_WORDS_BYTES])
{
        const int fd = connect_to(path, silence_s, words);
        struct json_object *ok;
        char *text = NULL;
        int rc = fd;

        if (fd < 0)
                return rc;
        rc = request_send(fd, request, words);
        if (rc == 0)
                rc = line_read(fd, &text, words);
        close(fd);
        if (rc < 0)
                return rc;
        *answer = json_tokener_parse(text);
        if (!*answer || !json_object_object_get_ex(*answer, "ok", &ok)) {
                json_object_put(*answer);
                free(text);
                return fail(words, -EPROTO, "its answer is none");
        }
        if (line)
                *line = text;
        else
                free(text);
        return 0;
}

struct json_object *ivg_control_request(const char *command, const char *object)
{
        struct json_object *request = json_object_new_object();

        json_object_object_add(request, "command", json_object_new_string(command));
        if (object)
                json_object_object_add(request, "object", json_object_new_string(object));
        return request;
}
