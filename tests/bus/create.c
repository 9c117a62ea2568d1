/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Making and ending contexts: every option of Create and Derive, names, Release. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

START_TEST(create_answers_path_id_and_object)
{
        _cleanup_message_ sd_bus_message *m = CALL(bus, "Create", "sa{sv}", "web", 0),
                                         *child = CALL(bus, "Create", "sa{sv}", "web/req-17", 0);
        const char *path, *object;
        uint64_t id, child_id;

        READ(m, "sto", &path, &id, &object);
        ck_assert_str_eq(path, "web");
        ck_assert_str_eq(object, "/org/ctxd1/context/web");
        READ(child, "sto", &path, &child_id, &object);
        ck_assert_str_eq(path, "web/req-17");
        ck_assert_str_eq(object, "/org/ctxd1/context/web/req_2d17");
        ck_assert_uint_gt(child_id, id);
        ck_assert_uint_eq(property_u64(bus, "web/req-17", "Id"), child_id);
}
END_TEST

START_TEST(names_as_people_write_them)
{
        static const char *const good[] = {"a", "A-Z_0.9:@", "...", "a/b", "-", "1"};

        create(bus, "/lead");
        EXPECT_ACTIVE(bus, "lead");
        EXPECT_ACTIVE(bus, "/lead");
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                create(bus, good[i]);
                _cleanup_free_ char *path = property_string(bus, good[i], "Path");
                ck_assert_str_eq(path, good[i]);
        }
}
END_TEST

START_TEST(longest_names)
{
        char label[CTXD_LABEL_MAX + 2], path[CTXD_PATH_MAX + 64] = "a";

        memset(label, 'x', sizeof label - 1);
        label[CTXD_LABEL_MAX] = '\0';
        create(bus, label);
        EXPECT_ACTIVE(bus, label);
        label[CTXD_LABEL_MAX] = 'x';
        label[CTXD_LABEL_MAX + 1] = '\0';
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", label, 0);

        for (int i = 1; i < CTXD_LABELS_MAX; i++)
                strcat(path, "/a");
        OK(bus, "Create", "sa{sv}", path, 1, "parents", "b", 1);
        ck_assert_uint_eq(count_listed(bus, "a"), CTXD_LABELS_MAX);
        cancel(bus, "a", "");
        ck_assert_int_eq(code_of(bus, path), ECANCELED);
        strcat(path, "/a");
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", path, 1, "parents", "b", 1);
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Err", "s", path);

        /* 1024 bytes in few labels: seven of 128 bytes, and one with the rest. */
        path[0] = '\0';
        label[CTXD_LABEL_MAX] = '\0';
        for (int i = 0; i < 7; i++) {
                strcat(path, label);
                strcat(path, "/");
        }
        label[CTXD_PATH_MAX - strlen(path)] = '\0';
        strcat(path, label);
        ck_assert_uint_eq(strlen(path), CTXD_PATH_MAX);
        OK(bus, "Create", "sa{sv}", path, 2, "parents", "b", 1, "open", "b", 1);
        EXPECT_ACTIVE(bus, path);
        strcat(path, "y");
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", path, 0);
}
END_TEST

START_TEST(made_up_labels)
{
        char seen[20][128];

        create(bus, "m");
        for (int i = 0; i < 20; i++) {
                _cleanup_message_ sd_bus_message *m = CALL(bus, "Create", "sa{sv}", "m/", 0);
                const char *path;

                READ(m, "sto", &path, NULL, NULL);
                ck_assert_int_eq(strncmp(path, "m/", 2), 0);
                ck_assert_uint_lt(strlen(path), sizeof seen[i]);
                strcpy(seen[i], path);
                for (int j = 0; j < i; j++)
                        ck_assert_str_ne(seen[j], seen[i]);
                EXPECT_ACTIVE(bus, path);
                OK(bus, "Release", "s", path); /* a label that was used is not made up again */
        }
        _cleanup_message_ sd_bus_message *top = CALL(bus, "Create", "sa{sv}", "/", 0);
        const char *path;
        READ(top, "sto", &path, NULL, NULL);
        ck_assert_ptr_null(strchr(path, '/'));
        EXPECT_ACTIVE(bus, path);
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Err", "s", "m/"); /* it is only for Create */
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Cancel", "ss", "m/", "");
}
END_TEST

START_TEST(tilde_is_the_callers_tree)
{
        char expected[64];

        OK(bus, "Create", "sa{sv}", "~/build", 0); /* it is there by itself */
        snprintf(expected, sizeof expected, "user-%u/build", getuid());
        EXPECT_ACTIVE(bus, expected);
        EXPECT_ACTIVE(bus, "~/build");
        _cleanup_free_ char *path = property_string(bus, expected, "Path");
        ck_assert_str_eq(path, expected);
        ck_assert(cancel(bus, "~/build", ""));
        ck_assert_uint_eq(count_listed(bus, "~"), 2);
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", "~user/x", 0);
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", "a/~", 0);
        OK(bus, "Release", "s", "~");
}
END_TEST

START_TEST(parents_and_open)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        uint64_t id, again;

        OK(bus, "Create", "sa{sv}", "p/q/r", 1, "parents", "b", 1);
        ck_assert_uint_eq(count_listed(bus, "p"), 3);
        id = property_u64(bus, "p/q/r", "Id");
        REFUSED(bus, CTXD_ERROR_EXISTS, "Create", "sa{sv}", "p/q/r", 1, "open", "b", 0);
        m = CALL(bus, "Create", "sa{sv}", "p/q/r", 1, "open", "b", 1);
        READ(m, "sto", NULL, &again, NULL);
        ck_assert_uint_eq(id, again);
        cancel(bus, "p/q/r", "");
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Create", "sa{sv}", "p/q/r", 1, "open", "b", 1);
        OK(bus, "Create", "sa{sv}", "p/q/r", 2, "open", "b", 1, "replace", "b", 1);
        EXPECT_ACTIVE(bus, "p/q/r");
        OK(bus, "Create", "sa{sv}", "p/q/s", 1, "open", "b", 1); /* and makes one where there is none */
        EXPECT_ACTIVE(bus, "p/q/s");
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Create", "sa{sv}", "p/x/y", 2, "open", "b", 1, "parents",
                        "b", 0);
}
END_TEST

START_TEST(open_by_its_id)
{
        char text[64], missing[64];
        uint64_t id = create(bus, "o"), found;
        const char *path;

        snprintf(text, sizeof text, "o#%ju", (uintmax_t) id);
        snprintf(missing, sizeof missing, "o#%ju", (uintmax_t) id + 1000);
        _cleanup_message_ sd_bus_message *m = CALL(bus, "Create", "sa{sv}", text, 1, "open", "b", 1);
        READ(m, "sto", &path, &found, NULL);
        ck_assert_str_eq(path, "o");
        ck_assert_uint_eq(found, id);
        REFUSED(bus, CTXD_ERROR_INVALID_NAME, "Create", "sa{sv}", text, 0);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Create", "sa{sv}", missing, 1, "open", "b", 1);
        cancel(bus, "o", "");
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Create", "sa{sv}", text, 1, "open", "b", 1);
        create(bus, "o");
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Create", "sa{sv}", text, 2, "open", "b", 1, "replace", "b", 1);
}
END_TEST

START_TEST(mode_group_and_description)
{
        _cleanup_free_ char *description = NULL;

        OK(bus, "Create", "sa{sv}", "m", 3, "mode", "u", 0750, "group", "u", getgid(), "description", "s",
                        "Überblick for people");
        create(bus, "m/inherits");
        create(bus, "default");
        for (int i = 0; i < 3; i++) {
                static const char *const objects[] = {"/org/ctxd1/context/m", "/org/ctxd1/context/m/inherits",
                                "/org/ctxd1/context/default"};
                uint32_t mode, uid, gid;

                ck_assert_int_ge(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, objects[i],
                                                 CTXD_CONTEXT_INTERFACE, "Mode", NULL, 'u', &mode),
                                0);
                ck_assert_int_ge(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, objects[i],
                                                 CTXD_CONTEXT_INTERFACE, "OwnerUID", NULL, 'u', &uid),
                                0);
                ck_assert_int_ge(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, objects[i],
                                                 CTXD_CONTEXT_INTERFACE, "OwnerGID", NULL, 'u', &gid),
                                0);
                ck_assert_uint_eq(mode, i == 2 ? 0700 : 0750);
                ck_assert_uint_eq(uid, getuid());
                ck_assert_uint_eq(gid, getgid());
        }
        description = property_string(bus, "m", "Description");
        ck_assert_str_eq(description, "Überblick for people");
        _cleanup_free_ char *none = property_string(bus, "m/inherits", "Description");
        ck_assert_str_eq(none, "");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "x", 1, "mode", "u", 01000);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "x", 1, "mode", "u", UINT32_MAX);
}
END_TEST

static void bind_and_go(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "bound", 1, "bind", "s", "caller");
        create(b, "bound/below");
        OK(b, "Create", "sa{sv}", "unbound", 1, "bind", "s", "none");
}

START_TEST(law28_the_callers_exit_cancels)
{
        wait_for(spawn(bind_and_go, NULL));
        int fd = done_handle(bus, "bound/below");
        ck_assert(becomes_readable(fd));
        close(fd);
        EXPECT_ERR(bus, "bound", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "owner exited");
        EXPECT_ACTIVE(bus, "unbound");
}
END_TEST

START_TEST(law28_an_owners_exit_cancels)
{
        int pidfd, fd;
        pid_t pid = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", "owned", 1, "owner", "h", pidfd);
        fd = done_handle(bus, "owned");
        ck_assert(!is_readable(fd));
        EXPECT_ACTIVE(bus, "owned");
        end_process(pid);
        ck_assert(becomes_readable(fd));
        EXPECT_ERR(bus, "owned", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "owner exited");
        close(fd);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Create", "sa{sv}", "late", 1, "owner", "h", pidfd);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "both", 2, "owner", "h", pidfd, "bind",
                        "s", "caller");
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "odd", 1, "bind", "s", "parent");
        close(pidfd);
}
END_TEST

START_TEST(attach_with_create)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int pidfd, status;
        uint32_t found;
        pid_t pid = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", "job", 3, "attach", "h", pidfd, "signal", "i", SIGTERM, "kill-after-usec",
                        "t", UINT64_C(10000000));
        m = CALL(bus, "Processes", "sbu", "job", 0, 0);
        READ(m, "a(utus)b", 1, &found, NULL, NULL, NULL, NULL);
        ck_assert_int_eq((pid_t) found, pid);
        cancel(bus, "job", "");
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        close(pidfd);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "x", 1, "signal", "i", SIGTERM);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "x", 1, "kill-after-usec", "t",
                        UINT64_C(1));
}
END_TEST

START_TEST(grace_is_taken)
{
        OK(bus, "Create", "sa{sv}", "g", 1, "grace-usec", "t", UINT64_C(1000000));
        OK(bus, "Create", "sa{sv}", "h", 1, "grace-usec", "t", UINT64_MAX);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "i", 1, "grace-usec", "i", -5);
}
END_TEST

START_TEST(derive_is_create_on_an_object)
{
        _cleanup_message_ sd_bus_message *m = NULL, *made_up = NULL, *top = NULL;
        const char *path, *object;

        create(bus, "web");
        m = CALL_ON(bus, "/org/ctxd1/context/web", "Derive", "sa{sv}", "req-1", 1, "values", "a{ss}", 1,
                        "org.k", "v");
        READ(m, "sto", &path, NULL, &object);
        ck_assert_str_eq(path, "web/req-1");
        ck_assert_str_eq(object, "/org/ctxd1/context/web/req_2d1");
        made_up = CALL_ON(bus, object, "Derive", "sa{sv}", "", 0);
        READ(made_up, "sto", &path, NULL, NULL);
        ck_assert_int_eq(strncmp(path, "web/req-1/", 10), 0);
        top = CALL_ON(bus, "/org/ctxd1/context", "Derive", "sa{sv}", "first", 0);
        READ(top, "sto", &path, NULL, NULL);
        ck_assert_str_eq(path, "first");

        REFUSED_ON(bus, "/org/ctxd1/context/web", CTXD_ERROR_EXISTS, "Derive", "sa{sv}", "req-1", 0);
        REFUSED_ON(bus, "/org/ctxd1/context/web", CTXD_ERROR_INVALID_NAME, "Derive", "sa{sv}", "a/b", 0);
        REFUSED_ON(bus, "/org/ctxd1/context/web", CTXD_ERROR_INVALID_NAME, "Derive", "sa{sv}", "..", 0);
        REFUSED_ON(bus, "/org/ctxd1/context/web", CTXD_ERROR_INVALID_NAME, "Derive", "sa{sv}", "a#1", 0);
        REFUSED_ON(bus, "/org/ctxd1/context/web", SD_BUS_ERROR_INVALID_ARGS, "Derive", "sa{sv}", "x", 1, "no",
                        "b", 1);
        REFUSED_ON(bus, "/org/ctxd1/context", CTXD_ERROR_INVALID_NAME, "Derive", "sa{sv}", "~", 0);
}
END_TEST

START_TEST(release_frees_the_path_at_once)
{
        uint64_t id;
        char reference[64];

        create(bus, "r");
        id = create(bus, "r/child");
        OK(bus, "Release", "s", "r");
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "r");
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "r/child");
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Release", "s", "r");
        ck_assert_uint_eq(count_listed(bus, "/"), 0);
        snprintf(reference, sizeof reference, "r/child#%ju", (uintmax_t) id);
        EXPECT_ERR(bus, reference, CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "context released");
        create(bus, "r");
        EXPECT_ACTIVE(bus, "r");
        OK_ON(bus, "/org/ctxd1/context/r", "Release", NULL);
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "r");
}
END_TEST

START_TEST(cancel_counts_what_it_did)
{
        _cleanup_message_ sd_bus_message *m = NULL, *again = NULL, *rest = NULL;
        uint32_t contexts, members;
        int first, pidfd;
        pid_t pid = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", "c/1/2", 1, "parents", "b", 1);
        create(bus, "c/done");
        cancel(bus, "c/done", "");
        OK(bus, "Attach", "sha{sv}", "c/1", pidfd, 0);
        m = CALL(bus, "Cancel", "ss", "c/1", "");
        READ(m, "buu", &first, &contexts, &members);
        ck_assert(first);
        ck_assert_uint_eq(contexts, 2);
        ck_assert_uint_eq(members, 1);
        again = CALL_ON(bus, "/org/ctxd1/context/c/_31", "Cancel", "s", "");
        READ(again, "buu", &first, &contexts, NULL);
        ck_assert(!first);
        ck_assert_uint_eq(contexts, 0);
        rest = CALL_ON(bus, "/org/ctxd1/context/c", "CancelCause", "is", EIO, "");
        READ(rest, "buu", &first, &contexts, NULL);
        ck_assert(first);
        ck_assert_uint_eq(contexts, 1);
        end_process(pid);
        close(pidfd);
}
END_TEST

Suite *suite_making(void)
{
        Suite *s = suite_create("create");

        ADD_TESTS(s, "create", start_retaining, create_answers_path_id_and_object, names_as_people_write_them,
                        longest_names, made_up_labels, tilde_is_the_callers_tree, parents_and_open,
                        open_by_its_id, mode_group_and_description, law28_the_callers_exit_cancels,
                        law28_an_owners_exit_cancels, attach_with_create, grace_is_taken,
                        derive_is_create_on_an_object, release_frees_the_path_at_once,
                        cancel_counts_what_it_did);
        return s;
}
