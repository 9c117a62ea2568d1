/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "proto/path.h"

static bool label_char(char c)
{
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               (c != '\0' && strchr("_.:@-", c));
}

bool label_is_valid(const char *label, size_t length)
{
        if (length == 0 || length > CTXD_LABEL_MAX)
                return false;
        if (label[0] == '.' && (length == 1 || (length == 2 && label[1] == '.')))
                return false;
        if (label[0] == '@')
                return false;
        for (size_t i = 0; i < length; i++)
                if (!label_char(label[i]))
                        return false;
        return true;
}

static int refuse(const char **ret_why, const char *why)
{
        if (ret_why)
                *ret_why = why;
        return -EINVAL;
}

static int check_label(const char *label, size_t length, const char **ret_why)
{
        if (length == 0)
                return refuse(ret_why, "it has an empty label: two slashes, or one at the end");
        if (length > CTXD_LABEL_MAX)
                return refuse(ret_why, "a label is longer than 128 bytes");
        if (label[0] == '@')
                return refuse(ret_why, "a label may not begin with @, which is kept for other hosts");
        if (!label_is_valid(label, length))
                return refuse(ret_why, "a label may only hold A-Z a-z 0-9 _ . : @ - and may not be . or ..");
        return 0;
}

int path_check(const char *path, const char **ret_why)
{
        size_t labels = 0;

        if (strcmp(path, "/") == 0)
                return 0;
        if (path[0] == '\0')
                return refuse(ret_why, "it is empty");
        if (strnlen(path, CTXD_PATH_MAX + 1) > CTXD_PATH_MAX)
                return refuse(ret_why, "it is longer than 1024 bytes");

        for (const char *p = path;;) {
                size_t n = strcspn(p, "/");
                int r = check_label(p, n, ret_why);
                if (r < 0)
                        return r;
                if (++labels > CTXD_LABELS_MAX)
                        return refuse(ret_why, "it has more than 64 labels");
                if (p[n] == '\0')
                        return 0;
                p += n + 1;
        }
}

/* The id at the beginning of the text; where it ends goes into *ret_rest. */
static int parse_id(const char *text, uint64_t *ret, const char **ret_rest)
{
        const char *p = text;
        uint64_t id = 0;

        if (*p < '1' || *p > '9') /* ids start at 1 and are written without leading zeros */
                return -EINVAL;
        for (; *p >= '0' && *p <= '9'; p++)
                if (__builtin_mul_overflow(id, 10, &id) ||
                                __builtin_add_overflow(id, (uint64_t) (*p - '0'), &id))
                        return -EINVAL;
        *ret = id;
        *ret_rest = p;
        return 0;
}

/* What follows the '#': an id, and, where a context is to be made, what it is called below that one. */
static int parse_pin(const char *text, bool to_make, struct reference *ref, const char **ret_rest,
                const char **ret_why)
{
        if (parse_id(text, &ref->id, ret_rest) < 0 || (**ret_rest != '\0' && !(to_make && **ret_rest == '/')))
                return refuse(ret_why, "what follows the # is not an id: a decimal number, 1 or more");
        if (to_make && **ret_rest == '\0')
                return refuse(ret_why, "a context that is to be made has no id yet");
        return 0;
}

int reference_parse(const char *text, uid_t uid, bool to_make, struct reference *ret, const char **ret_why)
{
        struct reference ref; /* its path is long: only what is used of it is written */
        const char *hash = strchr(text, '#'), *rest = "";
        size_t length = hash ? (size_t) (hash - text) : strlen(text), rest_length, n = 0;
        int r;

        ref.id = ref.pinned = 0;
        ref.generate = false;
        if (hash) {
                r = parse_pin(hash + 1, to_make, &ref, &rest, ret_why);
                if (r < 0)
                        return r;
        }
        rest_length = strlen(rest);
        if (length > CTXD_PATH_MAX || rest_length > CTXD_PATH_MAX)
                return refuse(ret_why, "it is longer than 1024 bytes");

        if (length == 1 && text[0] == '/') {
                if (hash)
                        return refuse(ret_why, "the background has no id");
                ret->id = ret->pinned = 0;
                ret->generate = to_make;
                strcpy(ret->path, "/");
                return 0;
        }
        if (length > 1 && text[0] == '/') { /* as people write it */
                text++;
                length--;
        }
        if (rest_length > 0 && rest[rest_length - 1] == '/') {
                ref.generate = true;
                rest_length--;
        } else if (to_make && !hash && length > 1 && text[length - 1] == '/') {
                ref.generate = true;
                length--;
        }
        if (length >= 1 && text[0] == '~' && (length == 1 || text[1] == '/')) {
                n = (size_t) sprintf(ref.path, "user-%" PRIu32, (uint32_t) uid);
                text++;
                length--;
        }
        if (n + length + rest_length >= sizeof ref.path)
                return refuse(ret_why, "it is longer than 1024 bytes");
        memcpy(ref.path + n, text, length);
        n += length;
        if (hash)
                ref.pinned = n;
        memcpy(ref.path + n, rest, rest_length);
        ref.path[n += rest_length] = '\0';

        if (strcmp(ref.path, "/") == 0) /* slashes alone, two or more */
                return check_label("", 0, ret_why);
        r = path_check(ref.path, ret_why);
        if (r < 0)
                return r;
        ret->id = ref.id;
        ret->pinned = ref.pinned;
        ret->generate = ref.generate;
        memcpy(ret->path, ref.path, n + 1);
        return 0;
}

int path_to_object(const char *path, char **ret_object)
{
        size_t length = strlen(CTXD_CONTEXT_OBJECT);
        char *object;

        /* An encoded label is at most three times as long. */
        object = malloc(length + 3 * strlen(path) + 2);
        if (!object)
                return -ENOMEM;
        strcpy(object, CTXD_CONTEXT_OBJECT);
        if (strcmp(path, "/") == 0) {
                *ret_object = object;
                return 0;
        }
        for (const char *p = path; *p;) {
                char label[CTXD_LABEL_MAX + 1], *encoded = NULL;
                size_t n = strcspn(p, "/");

                if (n > CTXD_LABEL_MAX) {
                        free(object);
                        return -EINVAL;
                }
                memcpy(label, p, n);
                label[n] = '\0';
                int r = sd_bus_path_encode("/", label, &encoded);
                if (r < 0) {
                        free(object);
                        return r;
                }
                strcpy(object + length, encoded);
                length += strlen(encoded);
                free(encoded);
                p += n + (p[n] == '/');
        }
        *ret_object = object;
        return 0;
}

int path_from_object(const char *object, char **ret_path)
{
        size_t prefix = strlen(CTXD_CONTEXT_OBJECT), length = 0;
        char *path;

        if (strncmp(object, CTXD_CONTEXT_OBJECT, prefix) != 0 ||
                        (object[prefix] != '/' && object[prefix] != '\0'))
                return -EINVAL;
        path = malloc(strlen(object) + 2);
        if (!path)
                return -ENOMEM;
        if (object[prefix] == '\0') {
                strcpy(path, "/");
                *ret_path = path;
                return 0;
        }
        path[0] = '\0';
        for (const char *p = object + prefix; *p == '/';) {
                char *label = NULL, *part;
                size_t n = strcspn(p + 1, "/");
                int r;

                if (n == 0) {
                        free(path);
                        return -EINVAL;
                }
                part = strndup(p, n + 1);
                if (!part) {
                        free(path);
                        return -ENOMEM;
                }
                r = sd_bus_path_decode(part, "/", &label);
                free(part);
                if (r > 0 && !label_is_valid(label, strlen(label))) { /* a slash may have been encoded */
                        free(label);
                        r = -EINVAL;
                }
                if (r <= 0) {
                        free(path);
                        return r < 0 ? r : -EINVAL;
                }
                if (length > 0)
                        path[length++] = '/';
                strcpy(path + length, label);
                length += strlen(label);
                free(label);
                p += n + 1;
        }
        if (path_check(path, NULL) < 0) {
                free(path);
                return -EINVAL;
        }
        *ret_path = path;
        return 0;
}

int key_check(const char *key, const char **ret_why)
{
        size_t length = strnlen(key, CTXD_KEY_MAX + 1);
        bool dot = false;

        if (length == 0)
                return refuse(ret_why, "it is empty");
        if (length > CTXD_KEY_MAX)
                return refuse(ret_why, "it is longer than 255 bytes");
        for (size_t i = 0; i < length; i++) {
                char c = key[i];

                if (c == '.') {
                        dot = true;
                        if (i == 0 || i + 1 == length || key[i - 1] == '.')
                                return refuse(ret_why, "a part between its dots is empty");
                } else if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                                           c == '_' || c == '-')) {
                        return refuse(ret_why, "it may only hold A-Z a-z 0-9 _ - and dots");
                }
        }
        if (!dot)
                return refuse(ret_why,
                                "it has no dot: keys are reverse-domain, such as org.example.user, so that "
                                "two programs do not collide");
        return 0;
}
