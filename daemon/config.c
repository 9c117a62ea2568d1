/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini_configobj.h>
#include <ini_valueobj.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/config.h"
#include "daemon/config-value.h"
#include "util/cleanup.h"
#include "util/utf8.h"

#define CONFIG_SECTION "Daemon"
#define CONFIG_FILE_MAX (1024 * 1024)

void config_defaults(struct config *ret)
{
        *ret = (struct config){
                        .leak_grace_usec = 5000000,
                        .retain_usec = 30000000,
                        .kill_after_usec = 10000000,
                        .probe = PROBE_MODE_AUTO,
                        .max_contexts = 1 << 21,
                        .max_members = 1 << 20,
                        .max_subscriptions = 65536,
                        .max_bytes = 256 << 20,
                        .max_unread_bytes = 128 << 20,
                        .max_contexts_per_user = 1 << 20,
                        .max_handles_per_user = 65536,
                        .max_members_per_user = 65536,
                        .max_connections_per_user = 4096,
                        .max_subscriptions_per_user = 1024,
                        .max_bytes_per_user = 64 << 20,
                        .max_unread_bytes_per_user = 16 << 20,
                        .max_value_bytes = 64 << 10,
        };
}

struct key {
        const char *name;
        int (*parse)(const char *text, uint64_t *ret);
        size_t offset;
        const char *expected;
};

#define TIME(key, field)                                                  \
        {                                                                 \
                key, parse_timespan, offsetof(struct config, field),      \
                                "a time such as 5s, 1min 30s or infinity" \
        }
#define NUMBER(key, field)                                                               \
        {                                                                                \
                key, parse_number, offsetof(struct config, field), "a number, 1 or more" \
        }
#define BYTES(key, field)                                                                     \
        {                                                                                     \
                key, parse_size, offsetof(struct config, field), "a size such as 512K or 64M" \
        }

static const struct key keys[] = {
                TIME("LeakGraceSec", leak_grace_usec),
                TIME("RetainSec", retain_usec),
                TIME("KillAfterSec", kill_after_usec),
                NUMBER("MaxContexts", max_contexts),
                NUMBER("MaxMembers", max_members),
                NUMBER("MaxSubscriptions", max_subscriptions),
                BYTES("MaxBytes", max_bytes),
                BYTES("MaxUnreadBytes", max_unread_bytes),
                NUMBER("MaxContextsPerUser", max_contexts_per_user),
                NUMBER("MaxHandlesPerUser", max_handles_per_user),
                NUMBER("MaxMembersPerUser", max_members_per_user),
                NUMBER("MaxConnectionsPerUser", max_connections_per_user),
                NUMBER("MaxSubscriptionsPerUser", max_subscriptions_per_user),
                BYTES("MaxBytesPerUser", max_bytes_per_user),
                BYTES("MaxUnreadBytesPerUser", max_unread_bytes_per_user),
                BYTES("MaxValueBytes", max_value_bytes),
};

struct reader {
        struct config *config;
        config_warn warn;
        void *userdata;
        const char *file;
};

static void __attribute__((format(printf, 3, 4)))
warn(const struct reader *r, unsigned line, const char *format, ...)
{
        char message[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof message, format, ap);
        va_end(ap);
        if (r->warn)
                r->warn(r->userdata, r->file, line, message);
}

static void read_key(const struct reader *r, const char *name, const char *text, unsigned line)
{
        if (strcmp(name, "Probe") == 0) {
                if (parse_probe(text, &r->config->probe) < 0)
                        warn(r, line, "Probe=%s is not auto, bpf, proc or off: the key is ignored", text);
                return;
        }
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                uint64_t value;

                if (strcmp(name, keys[i].name) != 0)
                        continue;
                if (keys[i].parse(text, &value) < 0)
                        warn(r, line, "%s=%s is not %s: the key is ignored", name, text, keys[i].expected);
                else
                        memcpy((char *) r->config + keys[i].offset, &value, sizeof value);
                return;
        }
        warn(r, line, "There is no key %s: it is ignored", name);
}

static void read_section(const struct reader *r, struct ini_cfgobj *ini, const char *section)
{
        char **names;
        int error;

        names = ini_get_attribute_list(ini, section, NULL, &error);
        if (!names)
                return;
        for (char **n = names; *n; n++) {
                struct value_obj *value = NULL;
                const char *text;
                uint32_t line = 0;

                /* The library ignores the case of names and sections. systemd does not, and neither do we. */
                if (ini_get_config_valueobj(section, *n, ini, INI_GET_FIRST_VALUE, &value) != 0 || !value)
                        continue;
                value_get_line(value, &line);
                text = ini_get_const_string_config_value(value, &error);
                if (strcmp(section, CONFIG_SECTION) != 0)
                        warn(r, line, "There is no section [%s]: %s= is ignored", section, *n);
                else
                        read_key(r, *n, text ? text : "", line);
        }
        ini_free_attribute_list(names);
}

/* Warns of lines that are no assignment. The library says "Error (NUMBER) on line NUMBER: TEXT". */
static void tell_errors(const struct reader *r, struct ini_cfgobj *ini)
{
        char **errors = NULL;

        if (ini_config_error_count(ini) == 0 || ini_config_get_errors(ini, &errors) != 0 || !errors)
                return;
        for (char **e = errors; *e; e++) {
                const char *at = strstr(*e, "on line "), *text = at ? strchr(at, ':') : NULL;

                warn(r, at ? (unsigned) strtoul(at + 8, NULL, 10) : 0,
                                "This is neither a section nor Key=value:%s", text ? text + 1 : *e);
        }
        ini_config_free_errors(errors);
}

static void read_sections(const struct reader *r, struct ini_cfgobj *ini)
{
        char **sections;
        int n, error;

        sections = ini_get_section_list(ini, &n, &error);
        for (char **s = sections; s && *s; s++)
                read_section(r, ini, *s);
        ini_free_section_list(sections);
}

/* One pass of the parser over the bytes. The library drops all values of a file in which it meets an error.
 * So there are two passes: a strict one finds what is wrong, and the other one ignores lines that are no
 * assignment. */
static int parse(const struct reader *r, char *bytes, size_t size, uint32_t flags,
                void (*use)(const struct reader *r, struct ini_cfgobj *ini))
{
        struct ini_cfgfile *file = NULL;
        struct ini_cfgobj *ini = NULL;
        int k;

        k = ini_config_file_from_mem(bytes, (uint32_t) size, &file);
        if (k == 0)
                k = ini_config_create(&ini);
        if (k == 0) {
                ini_config_parse(file, INI_STOP_ON_NONE, INI_MV1S_OVERWRITE,
                                flags | INI_PARSE_NOWRAP | INI_PARSE_NO_C_COMMENTS, ini);
                use(r, ini);
        }
        ini_config_destroy(ini);
        ini_config_file_destroy(file);
        return -k;
}

/* Reads the file's bytes. There is a limit, because the file may be anything. */
static int read_bytes(const char *path, char **ret, size_t *ret_size)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_free_ char *bytes = NULL;
        struct stat st;
        size_t size = 0;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (st.st_size > CONFIG_FILE_MAX)
                return -EFBIG;
        bytes = malloc(CONFIG_FILE_MAX + 1);
        if (!bytes)
                return -ENOMEM;
        for (;;) {
                ssize_t n = read(fd, bytes + size, CONFIG_FILE_MAX - size);

                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t) n;
                if (size == CONFIG_FILE_MAX)
                        return -EFBIG;
        }
        if (memchr(bytes, '\0', size))
                return -EBADMSG;
        *ret = TAKE_PTR(bytes);
        *ret_size = size;
        return 0;
}

/* The library refuses a file that is not UTF-8. One wrong byte in a comment must not lose the limits that the
 * file sets. */
static void mend(const struct reader *r, char *bytes, size_t size)
{
        unsigned line = 1;

        for (size_t i = 0, n; i < size; i += n + 1, line++) {
                const char *end = memchr(bytes + i, '\n', size - i);

                n = (end ? (size_t) (end - bytes) : size) - i;
                if (utf8_mend_bytes(bytes + i, n))
                        warn(r, line, "There are bytes in this line that are no UTF-8: they are read as ?");
        }
}

static int read_file(struct reader *r, const char *path)
{
        _cleanup_free_ char *bytes = NULL;
        size_t size = 0;
        int k;

        r->file = path;
        k = read_bytes(path, &bytes, &size);
        if (k < 0 || size == 0)
                return k;
        mend(r, bytes, size);
        k = parse(r, bytes, size, 0, tell_errors);
        return k < 0 ? k : parse(r, bytes, size, INI_PARSE_IGNORE_NON_KVP, read_sections);
}

static int is_dropin(const struct dirent *e)
{
        size_t n = strlen(e->d_name);

        return e->d_name[0] != '.' && n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0;
}

static void read_dropins(struct reader *r, const char *directory)
{
        struct dirent **entries;
        int n = scandir(directory, &entries, is_dropin, alphasort);

        if (n < 0 && errno != ENOENT) {
                r->file = directory;
                warn(r, 0, "The directory cannot be read: %s", strerror(errno));
        }
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX];
                int k;

                k = snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
                free(entries[i]);
                r->file = path;
                k = (size_t) k < sizeof path ? read_file(r, path) : -ENAMETOOLONG;
                if (k < 0)
                        warn(r, 0, "The file cannot be read: %s", strerror(-k));
                r->file = directory;
        }
        if (n >= 0)
                free(entries);
}

int config_load(const char *file, config_warn warning, void *userdata, struct config *ret)
{
        struct config config;
        struct reader r = {.config = &config, .warn = warning, .userdata = userdata};
        int k;

        config_defaults(&config);
        k = read_file(&r, file);
        if (k < 0)
                return k;
        *ret = config;
        return 0;
}

int config_load_directory(const char *directory, config_warn warning, void *userdata, struct config *ret)
{
        struct config config;
        struct reader r = {.config = &config, .warn = warning, .userdata = userdata};
        char path[PATH_MAX];
        int k;

        if ((size_t) snprintf(path, sizeof path, "%s/ctxd.conf.d", directory) >= sizeof path)
                return -ENAMETOOLONG;
        path[strlen(path) - strlen(".d")] = '\0';
        config_defaults(&config);
        k = read_file(&r, path);
        if (k < 0 && k != -ENOENT)
                warn(&r, 0, "The file cannot be read: %s", strerror(-k));
        strcat(path, ".d");
        read_dropins(&r, path);
        *ret = config;
        return 0;
}
