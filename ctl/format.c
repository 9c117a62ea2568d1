/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/format.h"

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MINUTE)
#define USEC_PER_DAY (24 * USEC_PER_HOUR)

char *format_timespan(char *buffer, uint64_t usec)
{
        static const struct {
                const char *name;
                uint64_t usec;
        } parts[] = {{"d", USEC_PER_DAY}, {"h", USEC_PER_HOUR}, {"min", USEC_PER_MINUTE}};
        size_t n = 0;

        if (usec == UINT64_MAX)
                return strcpy(buffer, "infinity");
        if (usec < USEC_PER_MSEC) {
                snprintf(buffer, FORMAT_MAX, usec ? "%" PRIu64 "us" : "0", usec);
                return buffer;
        }
        if (usec < USEC_PER_SEC) {
                snprintf(buffer, FORMAT_MAX, "%" PRIu64 "ms", usec / USEC_PER_MSEC);
                return buffer;
        }
        if (usec < USEC_PER_MINUTE) {
                snprintf(buffer, FORMAT_MAX, "%" PRIu64 ".%" PRIu64 "s", usec / USEC_PER_SEC,
                                usec % USEC_PER_SEC / (USEC_PER_SEC / 10));
                return buffer;
        }
        /* The two largest units are enough. */
        buffer[0] = '\0';
        for (size_t i = 0, shown = 0; i < ELEMENTSOF(parts) && shown < 2; i++)
                if (usec >= parts[i].usec) {
                        n += (size_t) snprintf(buffer + n, FORMAT_MAX - n, "%s%" PRIu64 "%s", n ? " " : "",
                                        usec / parts[i].usec, parts[i].name);
                        usec %= parts[i].usec;
                        shown++;
                        if (i == ELEMENTSOF(parts) - 1 && shown < 2 && usec >= USEC_PER_SEC)
                                snprintf(buffer + n, FORMAT_MAX - n, " %" PRIu64 "s", usec / USEC_PER_SEC);
                }
        return buffer;
}

char *format_timestamp(char *buffer, uint64_t boottime_usec)
{
        struct timespec ts;
        struct tm tm;
        int64_t usec;
        time_t seconds;

        clock_gettime(CLOCK_REALTIME, &ts);
        usec = (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000 +
               (int64_t) (boottime_usec - now_boottime_usec());
        seconds = (time_t) (usec / 1000000);
        if (!localtime_r(&seconds, &tm) || strftime(buffer, FORMAT_MAX, "%a %F %T %Z", &tm) == 0)
                strcpy(buffer, "n/a");
        return buffer;
}

char *format_relative(char *buffer, uint64_t boottime_usec)
{
        uint64_t now = now_boottime_usec();

        if (boottime_usec > now)
                strcat(format_timespan(buffer, boottime_usec - now), " left");
        else
                strcat(format_timespan(buffer, now - boottime_usec), " ago");
        return buffer;
}

static char *format_name(char *buffer, const char *name, uint32_t id)
{
        if (name)
                snprintf(buffer, FORMAT_MAX, "%s", name);
        else
                snprintf(buffer, FORMAT_MAX, "%" PRIu32, id);
        return buffer;
}

char *format_user(char *buffer, uid_t uid)
{
        const struct passwd *pw = getpwuid(uid);

        return format_name(buffer, pw ? pw->pw_name : NULL, uid);
}

char *format_group(char *buffer, gid_t gid)
{
        const struct group *gr = getgrgid(gid);

        return format_name(buffer, gr ? gr->gr_name : NULL, gid);
}
