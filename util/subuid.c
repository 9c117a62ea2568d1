/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/subuid.h"

static bool is_name_of(const char *name, uid_t uid)
{
        _cleanup_fclose_ FILE *f = fopen("/etc/passwd", "re");
        const struct passwd *pw;

        while (f && (pw = fgetpwent(f)))
                if (strcmp(pw->pw_name, name) == 0)
                        return pw->pw_uid == uid;
        return false;
}

/* "root" is no number, and "0x10" is none in this file. */
static bool names_user(const char *name, uid_t uid)
{
        char number[16];

        snprintf(number, sizeof number, "%u", (unsigned) uid);
        return strcmp(name, number) == 0 || is_name_of(name, uid);
}

/* Digits up to that character, after which *text goes on. Some programs read a leading zero as octal. */
static bool read_number(char **text, char end, uint64_t *ret)
{
        char *from = *text, *to;

        if (from[0] < '0' || from[0] > '9' || (from[0] == '0' && from[1] >= '0' && from[1] <= '9'))
                return false;
        errno = 0;
        *ret = strtoull(from, &to, 10);
        if (errno != 0 || *ret > UINT32_MAX || *to != end)
                return false;
        *text = to + 1;
        return true;
}

/* A line that is not wholly understood grants nothing, since by it the daemon signals with the rights of
 * root. Nor does one grant uid 0: a program that has become root by a set-user-ID bit has it, too. */
bool subuid_is_in(FILE *f, uid_t uid, uid_t owner)
{
        _cleanup_free_ char *line = NULL;
        uint64_t first, count;
        size_t size = 0;
        ssize_t n;

        while (uid != 0 && (n = getline(&line, &size, f)) > 0) {
                char *rest = memchr(line, ':', (size_t) n);

                if (line[n - 1] == '\n')
                        line[--n] = '\0';
                if (!rest)
                        continue;
                *rest++ = '\0';
                if (read_number(&rest, ':', &first) && read_number(&rest, '\0', &count) &&
                                rest == line + n + 1 && uid >= first && uid - first < count &&
                                names_user(line, owner))
                        return true;
        }
        return false;
}

bool subuid_is_of(uid_t uid, uid_t owner)
{
        _cleanup_fclose_ FILE *f = fopen("/etc/subuid", "re");

        return f && subuid_is_in(f, uid, owner);
}
