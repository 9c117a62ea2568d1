/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/subuid.h"

static void fclosep(FILE **f)
{
        if (*f)
                fclose(*f);
}

static bool is_name_of(const char *name, uid_t uid)
{
        _cleanup_(fclosep) FILE *f = fopen("/etc/passwd", "re");
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

bool subuid_is_of(uid_t uid, uid_t owner)
{
        _cleanup_(fclosep) FILE *f = fopen("/etc/subuid", "re");
        unsigned long first, count;
        char line[512], name[256];

        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "%255[^:]:%lu:%lu", name, &first, &count) == 3 && uid >= first &&
                                uid - first < count && names_user(name, owner))
                        return true;
        return false;
}
