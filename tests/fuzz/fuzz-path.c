/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The name grammar: what is accepted keeps to the rules, said here once more, and survives every round trip.
 */

#include <inttypes.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "util/cleanup.h"
#include "proto/path.h"
#include "tests/fuzz/input.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static bool is_path(const char *text)
{
        size_t labels = 0;

        if (strcmp(text, "/") == 0)
                return true;
        if (strlen(text) > 1024)
                return false;
        for (const char *p = text;; p++) {
                size_t n = strcspn(p, "/");

                if (n < 1 || n > 128 || strspn(p, LETTERS "_.:@-") < n || ++labels > 64)
                        return false;
                if ((strncmp(p, "..", n) == 0 && n <= 2) || *p == '@')
                        return false;
                p += n;
                if (*p == '\0')
                        return true;
        }
}

static bool is_key(const char *text)
{
        size_t n = strlen(text);

        return n >= 1 && n <= 255 && strspn(text, LETTERS "_-.") == n && strchr(text, '.') &&
               !strstr(text, "..") && text[0] != '.' && text[n - 1] != '.';
}

static void try_path(const char *text)
{
        _cleanup_free_ char *object = NULL, *back = NULL;
        const char *why = NULL;
        struct reference ref;
        int r;

        r = path_check(text, &why);
        REQUIRE((r == 0) == is_path(text));
        REQUIRE((r == 0) == (why == NULL));
        if (r < 0)
                return;
        REQUIRE(path_to_object(text, &object) == 0);
        REQUIRE(sd_bus_object_path_is_valid(object) > 0);
        REQUIRE(path_from_object(object, &back) == 0);
        REQUIRE(strcmp(text, back) == 0);
        REQUIRE(reference_parse(text, 4242, false, &ref, &why) == 0);
        REQUIRE(strcmp(ref.path, text) == 0 && ref.id == 0 && !ref.generate);
}

static void try_object(const char *text)
{
        _cleanup_free_ char *path = NULL, *object = NULL, *again = NULL;

        if (path_from_object(text, &path) < 0)
                return;
        REQUIRE(is_path(path));
        REQUIRE(path_to_object(path, &object) == 0);
        REQUIRE(path_from_object(object, &again) == 0);
        REQUIRE(strcmp(path, again) == 0);
}

static void try_reference(const char *text, uid_t uid, bool to_make)
{
        struct reference ref, again, untouched;
        char full[CTXD_PATH_ID_MAX + 1];
        const char *why = NULL;

        memset(&ref, 0x5a, sizeof ref);
        untouched = ref;
        if (reference_parse(text, uid, to_make, &ref, &why) < 0) {
                REQUIRE(why && why[0]);
                REQUIRE(memcmp(&ref, &untouched, sizeof ref) == 0);
                return;
        }
        REQUIRE(memchr(ref.path, '\0', sizeof ref.path));
        REQUIRE(is_path(ref.path));
        REQUIRE(!ref.generate || to_make);
        REQUIRE((ref.pinned != 0) == (ref.id != 0) && ref.pinned <= strlen(ref.path));
        REQUIRE(ref.id == 0 || ref.path[ref.pinned] == '/' || ref.path[ref.pinned] == '\0');
        /* What is to be made has no id, what is there needs nothing behind it. */
        REQUIRE(ref.id == 0 || to_make == (ref.generate || ref.path[ref.pinned] == '/'));
        REQUIRE((ref.id != 0) == (strchr(text, '#') != NULL));
        REQUIRE(ref.id == 0 || strcmp(ref.path, "/") != 0);
        if (text[0] == '~')
                REQUIRE(strncmp(ref.path, "user-", 5) == 0 && strtoul(ref.path + 5, NULL, 10) == uid);

        /* Written as the daemon writes it, it means the same to everybody. */
        if (ref.id != 0)
                snprintf(full, sizeof full, "%s#%" PRIu64, ref.path, ref.id);
        else
                snprintf(full, sizeof full, "%s", ref.path);
        REQUIRE(reference_parse(full, uid + 1, false, &again, &why) == 0);
        REQUIRE(strcmp(again.path, ref.path) == 0 && again.id == ref.id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};
        uint8_t flags = input_byte(&in);
        uid_t uid = (uid_t) input_raw(&in, flags & 6 ? 4 : 0);
        _cleanup_free_ char *text =
                        strndup(in.p == in.end ? "" : (const char *) in.p, (size_t) (in.end - in.p));
        _cleanup_free_ char *object = NULL;
        const char *why = NULL;

        REQUIRE(text);
        try_path(text);
        try_reference(text, uid, flags & 1);
        if (asprintf(&object, "%s%s%s", CTXD_CONTEXT_OBJECT, flags & 8 ? "/" : "", text) < 0)
                return 0;
        try_object(object);
        try_object(text);
        REQUIRE((key_check(text, &why) == 0) == is_key(text));
        REQUIRE((why == NULL) == is_key(text));
        return 0;
}
