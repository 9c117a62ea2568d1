/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The configuration: any bytes give a configuration that can be used, and warnings that can be read, or an
 * error. */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/config-value.h"
#include "util/cleanup.h"
#include "tests/fuzz/input.h"

static void on_warning(void *userdata, const char *file, unsigned line, const char *message)
{
        unsigned *n = userdata;

        REQUIRE(file && message && strlen(message) < 512);
        (*n)++;
}

static bool is_same(const struct config *a, const struct config *b)
{
        return a->leak_grace_usec == b->leak_grace_usec && a->retain_usec == b->retain_usec &&
               a->kill_after_usec == b->kill_after_usec && a->probe == b->probe &&
               a->max_contexts == b->max_contexts && a->max_contexts_per_user == b->max_contexts_per_user &&
               a->max_handles_per_user == b->max_handles_per_user &&
               a->max_members_per_user == b->max_members_per_user &&
               a->max_connections_per_user == b->max_connections_per_user &&
               a->max_members == b->max_members && a->max_subscriptions == b->max_subscriptions &&
               a->max_bytes == b->max_bytes && a->max_unread_bytes == b->max_unread_bytes &&
               a->max_bytes_per_user == b->max_bytes_per_user &&
               a->max_unread_bytes_per_user == b->max_unread_bytes_per_user &&
               a->max_value_bytes == b->max_value_bytes;
}

static void try_values(const char *text)
{
        uint64_t value;

        if (parse_number(text, &value) == 0)
                REQUIRE(value > 0);
        (void) parse_size(text, &value);
        (void) parse_timespan(text, &value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_close_ int fd = memfd_create("config", MFD_CLOEXEC);
        struct config config, again, untouched;
        char path[64], text[256];
        unsigned n = 0, n_again = 0;
        int r;

        if (fd < 0 || size > 65536 || write(fd, data, size) != (ssize_t) size)
                return 0;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        memset(&config, 0x5a, sizeof config);
        memset(&again, 0x5a, sizeof again);
        untouched = config;

        r = config_load(path, on_warning, &n, &config);
        REQUIRE(r == 0 || r == -EBADMSG);
        REQUIRE((r == -EBADMSG) == (size > 0 && memchr(data, 0, size)));
        if (r < 0) {
                REQUIRE(memcmp(&config, &untouched, sizeof config) == 0);
                return 0;
        }
        REQUIRE(config.probe <= PROBE_MODE_BPF);
        REQUIRE(config.max_contexts > 0 && config.max_contexts_per_user > 0 &&
                        config.max_handles_per_user > 0);
        REQUIRE(config.max_members_per_user > 0 && config.max_connections_per_user > 0);

        REQUIRE(config_load(path, on_warning, &n_again, &again) == 0);
        REQUIRE(n == n_again && is_same(&config, &again));

        snprintf(text, sizeof text, "%.*s", (int) (size < sizeof text ? size : sizeof text - 1),
                        (const char *) data);
        try_values(text);
        return 0;
}
