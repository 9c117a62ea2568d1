/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where a daemon may put its socket: not where somebody else could have put something. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/socket-file.h"
#include "tests/harness/process.h"
#include "tests/harness/suite.h"

#define OTHER 1001

static char base[] = "/tmp/ctxd-test-XXXXXX", path[128];

static const char *in(const char *name)
{
        snprintf(path, sizeof path, "%s/%s", base, name);
        return path;
}

static void setup(void)
{
        strcpy(base, "/tmp/ctxd-test-XXXXXX");
        directory_make(base);
        ck_assert_int_eq(mkdir(in("d"), 0755), 0);
}

static void teardown(void)
{
        directory_remove(base);
}

static int new_socket(void)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_ge(fd, 0);
        return fd;
}

/* Returns what binding there returns, and removes what it has made. */
static int bind_at(const char *name, bool said)
{
        _cleanup_close_ int fd = new_socket();
        struct socket_file f = SOCKET_FILE_NONE;
        const char *why;
        int r = socket_file_bind(&f, fd, in(name), 0666, &why);

        ck_assert((why != NULL) == said);
        socket_file_remove(&f);
        return r;
}

START_TEST(a_directory_of_our_own)
{
        _cleanup_close_ int fd = new_socket();
        struct socket_file f;
        const char *why;
        struct stat st;

        ck_assert_int_eq(bind_at("d/bus", false), 0);
        ck_assert_int_eq(socket_file_bind(&f, fd, in("d/bus"), 0660, &why), 0);
        ck_assert_int_eq(lstat(in("d/bus"), &st), 0);
        ck_assert_uint_eq(st.st_mode, S_IFSOCK | 0660);
        /* Nobody listens there yet, so a second one takes the place. The first one does not remove that. */
        {
                _cleanup_close_ int second = new_socket();
                struct socket_file g;

                ck_assert_int_eq(socket_file_bind(&g, second, in("d/bus"), 0666, &why), 0);
                socket_file_remove(&f);
                ck_assert_int_eq(lstat(in("d/bus"), &st), 0);
                ck_assert_uint_eq(st.st_mode, S_IFSOCK | 0666);
                ck_assert_int_eq(listen(second, 1), 0);
                ck_assert_int_eq(bind_at("d/bus", false), -EADDRINUSE);
                socket_file_remove(&g);
        }
        ck_assert_int_lt(lstat(in("d/bus"), &st), 0);
        ck_assert_int_eq(bind_at("none/bus", false), -ENOENT);
}
END_TEST

START_TEST(what_others_could_have_put_there)
{
        struct stat st;
        int fd;

        /* Others may write to it: only with the sticky bit. */
        ck_assert_int_eq(chmod(in("d"), 0777), 0);
        ck_assert_int_eq(bind_at("d/bus", true), -EPERM);
        ck_assert_int_eq(chmod(in("d"), 0775), 0);
        ck_assert_int_eq(bind_at("d/bus", true), -EPERM);
        ck_assert_int_eq(chmod(in("d"), 01777), 0);
        ck_assert_int_eq(bind_at("d/bus", false), 0);
        ck_assert_int_eq(chmod(in("d"), 0755), 0);

        /* A link in the place of the directory, and in that of the socket. */
        ck_assert_int_eq(symlink("d", in("link")), 0);
        ck_assert_int_eq(bind_at("link/bus", true), -EPERM);
        ck_assert_int_eq(symlink("../victim", in("d/bus")), 0);
        ck_assert_int_ge(fd = open(in("victim"), O_CREAT | O_CLOEXEC | O_RDWR, 0600), 0);
        ck_assert_int_eq(bind_at("d/bus", true), -EEXIST);
        ck_assert_int_eq(fstat(fd, &st), 0);
        ck_assert_uint_eq(st.st_mode, S_IFREG | 0600);
        close(fd);
        ck_assert_int_eq(lstat(in("d/bus"), &st), 0);
        ck_assert(S_ISLNK(st.st_mode));

        /* A file that is no socket is not removed. */
        ck_assert_int_eq(unlink(in("d/bus")), 0);
        ck_assert_int_eq(mknod(in("d/bus"), S_IFREG | 0600, 0), 0);
        ck_assert_int_eq(bind_at("d/bus", true), -EEXIST);
        ck_assert_int_eq(lstat(in("d/bus"), &st), 0);
}
END_TEST

START_TEST(what_is_another_users)
{
        if (getuid() != 0)
                return; /* only root can give it to somebody */
        ck_assert_int_eq(chown(in("d"), OTHER, OTHER), 0);
        ck_assert_int_eq(bind_at("d/bus", true), -EPERM);
        ck_assert_int_eq(chown(in("d"), 0, 0), 0);
        ck_assert_int_eq(mknod(in("d/bus"), S_IFSOCK | 0666, 0), 0);
        ck_assert_int_eq(chown(in("d/bus"), OTHER, OTHER), 0);
        ck_assert_int_eq(bind_at("d/bus", true), -EEXIST);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("socket-file");
        TCase *c = add_case(s, "socket-file",
                        (const TTest *const[]){a_directory_of_our_own, what_others_could_have_put_there,
                                        what_is_another_users, NULL});

        tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(s);
}
