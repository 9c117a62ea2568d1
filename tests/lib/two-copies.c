/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* A program uses the library, and a plugin of it brings a copy of its own. Each has its own threads, lists
 * and current contexts. The dynamic linker looks for every symbol in the program's libraries first, also for
 * what the copy calls of itself. $LIBRARY is the file. */

struct copy {
        struct ctx *(*background)(void);
        struct ctx *(*with_cancel)(struct ctx *);
        int (*cancel)(struct ctx *);
        struct ctx *(*current)(void);
        struct ctx *(*unref)(struct ctx *);
        struct ctx_group *(*group_new)(struct ctx *);
        int (*group_go)(struct ctx_group *, int (*)(struct ctx *, void *), void *);
        int (*group_wait)(struct ctx_group *);
        struct ctx_group *(*group_unref)(struct ctx_group *);
};

static void copy_library(const char *to)
{
        int in = open(getenv("LIBRARY"), O_RDONLY | O_CLOEXEC), out = creat(to, 0600);
        struct stat st;

        ck_assert_int_eq(fstat(in, &st), 0);
        ck_assert_int_eq(sendfile(out, in, NULL, (size_t) st.st_size), st.st_size);
        close(in);
        close(out);
}

static void *open_copy(void)
{
        char directory[] = "/tmp/ctxd-two-copies-XXXXXX", *file;
        void *handle;

        directory_make(directory);
        ck_assert_int_gt(asprintf(&file, "%s/libplugin.so", directory), 0);
        copy_library(file);
        handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
        ck_assert_msg(handle, "%s", dlerror());
        directory_remove(directory);
        free(file);
        return handle;
}

static void load(struct copy *copy)
{
        void *handle = open_copy();
        const struct {
                void *to;
                const char *name;
        } all[] = {
                        {&copy->background, "ctx_background"},
                        {&copy->with_cancel, "ctx_with_cancel"},
                        {&copy->cancel, "ctx_cancel"},
                        {&copy->current, "ctx_current"},
                        {&copy->unref, "ctx_unref"},
                        {&copy->group_new, "ctx_group_new"},
                        {&copy->group_go, "ctx_group_go"},
                        {&copy->group_wait, "ctx_group_wait"},
                        {&copy->group_unref, "ctx_group_unref"},
        };

        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
                void *symbol = dlsym(handle, all[i].name);

                ck_assert_ptr_nonnull(symbol);
                memcpy(all[i].to, &symbol, sizeof(symbol));
        }
        ck_assert(copy->background != ctx_background && copy->background() != ctx_background());
}

static struct copy copy;

/* 1: the thread works for ctx in the copy, and for nothing in the program. */
static int look(struct ctx *ctx, void *userdata)
{
        *(int *) userdata = copy.current() == ctx && ctx_current() == ctx_background();
        return 0;
}

static int group_is_its_own(void)
{
        struct ctx *ctx = copy.with_cancel(copy.background());
        struct ctx_group *group = copy.group_new(ctx);
        int is_own = 0;

        ck_assert_int_eq(copy.group_go(group, look, &is_own), 0);
        ck_assert_int_eq(copy.group_wait(group), 0);
        copy.group_unref(group);
        ck_assert_int_eq(copy.cancel(ctx), 1);
        copy.unref(ctx);
        return is_own;
}

START_TEST(a_copy_calls_itself)
{
        pid_t pid;
        int status;

        load(&copy);
        ck_assert_int_eq(ctx_enter(ctx_background()), 0);
        ck_assert(group_is_its_own());
        ck_assert_ptr_eq(copy.current(), copy.background());
        ctx_leave(ctx_background());
        pid = fork_tied();
        if (pid == 0)
                _exit(!group_is_its_own());
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {a_copy_calls_itself, NULL};

        return run_laws("two copies of the library", tests);
}
