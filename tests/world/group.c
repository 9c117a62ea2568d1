/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>
#include <errno.h>
#include <glob.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/world/group.h"

static char hierarchy[256], controlled[256];
static char name[64]; /* what all groups of this run begin with */
static char groups[64][400];
static unsigned n_groups;

const char *group_missing(void)
{
        FILE *f = setmntent("/proc/self/mounts", "re");
        static char reason[128];
        struct mntent *m;
        char path[400];

        while (f && !hierarchy[0] && (m = getmntent(f)))
                if (strcmp(m->mnt_type, "cgroup2") == 0)
                        snprintf(hierarchy, sizeof hierarchy, "%s", m->mnt_dir);
        if (f)
                endmntent(f);
        if (!hierarchy[0])
                return "no cgroup2 is mounted";
        if (!name[0])
                snprintf(name, sizeof name, "ctxd-test-%d", (int) getpid());
        snprintf(path, sizeof path, "%s/%s", hierarchy, name);
        if (mkdir(path, 0755) == 0 && rmdir(path) == 0)
                return NULL;
        snprintf(reason, sizeof reason, "cannot make a control group: %s", strerror(errno));
        return reason;
}

const char *group_new(const char *parent)
{
        char *path = groups[n_groups];

        ck_assert_uint_lt(n_groups, sizeof groups / sizeof groups[0]);
        ck_assert_int_lt(snprintf(path, sizeof groups[0], "%s/%s-%u", parent ? parent : hierarchy, name,
                                         n_groups),
                        (int) sizeof groups[0]);
        ck_assert_int_eq(mkdir(path, 0755), 0);
        n_groups++;
        return path;
}

static bool read_line_of(const char *path, char *line, size_t size, bool (*is_it)(const char *, const char *),
                const char *wanted)
{
        FILE *f = fopen(path, "re");
        bool found = false;

        while (f && !found && fgets(line, (int) size, f)) {
                line[strcspn(line, "\n")] = '\0';
                found = is_it(line, wanted);
        }
        if (f)
                fclose(f);
        return found;
}

static bool has_word(const char *line, const char *word)
{
        size_t n = strlen(word);

        for (const char *p = line; (p = strstr(p, word)); p += n)
                if ((p == line || strchr(" :,", p[-1])) && strchr(" :,", p[n]))
                        return true;
        return false;
}

/* The hierarchy of an old controller, and our own group there: what bounds us also bounds what is below. */
static bool old_hierarchy(const char *controller)
{
        FILE *f = setmntent("/proc/self/mounts", "re");
        struct mntent *m;
        char own[300];

        controlled[0] = '\0';
        while (f && !controlled[0] && (m = getmntent(f)))
                if (strcmp(m->mnt_type, "cgroup") == 0 && hasmntopt(m, controller) &&
                                read_line_of("/proc/self/cgroup", own, sizeof own, has_word, controller))
                        snprintf(controlled, sizeof controlled, "%.80s%.170s", m->mnt_dir,
                                        strcmp(strrchr(own, ':') + 1, "/") == 0 ? "" : strrchr(own, ':') + 1);
        if (f)
                endmntent(f);
        return controlled[0];
}

const char *group_controlled(const char *controller)
{
        char path[400], line[300];

        snprintf(path, sizeof path, "%s/cgroup.subtree_control", hierarchy);
        if (read_line_of(path, line, sizeof line, has_word, controller))
                return group_new(NULL);
        return old_hierarchy(controller) && access(controlled, W_OK) == 0 ? group_new(controlled) : NULL;
}

bool group_write(const char *group, const char *file, const char *text)
{
        char path[440];
        FILE *f;

        snprintf(path, sizeof path, "%s/%s", group, file);
        f = fopen(path, "r+e");
        if (!f)
                return false;
        fputs(text, f);
        ck_assert_int_eq(fclose(f), 0);
        return true;
}

static bool begins(const char *line, const char *key)
{
        return !key || strncmp(line, key, strlen(key)) == 0;
}

unsigned long long group_read(const char *group, const char *file, const char *key)
{
        unsigned long long n;
        char path[440], line[300];

        snprintf(path, sizeof path, "%s/%s", group, file);
        ck_assert_msg(read_line_of(path, line, sizeof line, begins, key), "%s: %s", path, key ? key : "");
        ck_assert_int_eq(sscanf(line + (key ? strlen(key) : 0), "%llu", &n), 1);
        return n;
}

void group_enter(const char *group, pid_t pid)
{
        char path[420];
        FILE *f;

        snprintf(path, sizeof path, "%s/cgroup.procs", group ? group : hierarchy);
        f = fopen(path, "we");
        ck_assert_ptr_nonnull(f);
        fprintf(f, "%d\n", (int) pid);
        ck_assert_int_eq(fclose(f), 0);
}

void group_remove_all(void)
{
        /* A group is busy for an instant after its last process was reaped. */
        while (n_groups > 0) {
                while (rmdir(groups[n_groups - 1]) < 0) {
                        ck_assert_int_eq(errno, EBUSY);
                        usleep(1000);
                }
                n_groups--;
        }
}

static void remove_in(const char *parent)
{
        char pattern[400];
        glob_t found;

        snprintf(pattern, sizeof pattern, "%.300s/%s-*", parent, name);
        if (glob(pattern, 0, NULL, &found) != 0)
                return;
        for (size_t i = 0; i < found.gl_pathc; i++) {
                char path[420];
                FILE *f;

                snprintf(path, sizeof path, "%.390s/cgroup.kill", found.gl_pathv[i]);
                f = fopen(path, "we");
                if (f) {
                        fputs("1\n", f);
                        fclose(f);
                }
                if (strlen(parent) == strlen(hierarchy))
                        remove_in(found.gl_pathv[i]);
                for (unsigned k = 0; k < 1000 && rmdir(found.gl_pathv[i]) < 0; k++)
                        usleep(10000);
        }
        globfree(&found);
}

void group_remove_left(void)
{
        static const char *const controllers[] = {"memory", "pids"};

        remove_in(hierarchy);
        for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++)
                if (old_hierarchy(controllers[i]))
                        remove_in(controlled);
}
