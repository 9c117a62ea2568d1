/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Contexts as D-Bus objects: their properties, and what introspection and busctl show of them. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static char *introspect(sd_bus *b, const char *object)
{
        sd_bus_message *reply =
                        call(HERE, b, object, "org.freedesktop.DBus.Introspectable", "Introspect", NULL);
        const char *xml;
        char *copy;

        READ(reply, "s", &xml);
        copy = strdup(xml);
        sd_bus_message_unref(reply);
        return copy;
}

/* Compares in both directions: members that are served but not described, and members that are described
 * but not served. */
START_TEST(introspection_is_what_the_xml_says)
{
        static const char *const objects[] = {CTXD_OBJECT, "/org/ctxd1/context/web"};
        char command[1024], files[2][96];

        create(bus, "web");
        for (size_t i = 0; i < ELEMENTSOF(objects); i++) {
                _cleanup_free_ char *xml = introspect(bus, objects[i]);
                FILE *f;

                snprintf(files[i], sizeof files[i], "%s/%zu.xml", world.daemon.directory, i);
                f = fopen(files[i], "we");
                ck_assert_ptr_nonnull(f);
                fputs(xml, f);
                fclose(f);
        }
        snprintf(command, sizeof command, "python3 '%s' '%s' '%s' '%s' >&2", getenv("COMPARE"), getenv("XML"),
                        files[0], files[1]);
        ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(the_tree_of_objects)
{
        OK(bus, "Create", "sa{sv}", "web/req-17/x", 1, "parents", "b", 1);
        create(bus, "_odd");
        _cleanup_free_ char *root = introspect(bus, CTXD_OBJECT),
                            *top = introspect(bus, "/org/ctxd1/context"),
                            *web = introspect(bus, "/org/ctxd1/context/web"),
                            *deep = introspect(bus, "/org/ctxd1/context/web/req_2d17");

        ck_assert_ptr_nonnull(strstr(root, "<node name=\"context\"/>"));
        ck_assert_ptr_nonnull(strstr(top, "<node name=\"web\"/>"));
        ck_assert_ptr_nonnull(strstr(top, "<node name=\"_5fodd\"/>"));
        ck_assert_ptr_null(strstr(top, "req_2d17"));
        ck_assert_ptr_nonnull(strstr(web, "<node name=\"req_2d17\"/>"));
        ck_assert_ptr_nonnull(strstr(deep, "<node name=\"x\"/>"));
        ck_assert_ptr_nonnull(strstr(deep, CTXD_CONTEXT_INTERFACE));
        OK(bus, "Release", "s", "web");
        _cleanup_free_ char *after = introspect(bus, "/org/ctxd1/context");
        ck_assert_ptr_null(strstr(after, "\"web\""));
        EXPECT_ACTIVE(bus, "_odd");
}
END_TEST

START_TEST(properties_of_an_object)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        char expected[64];
        unsigned found = 0;
        const char *name;

        OK(bus, "Create", "sa{sv}", "web", 3, "description", "s", "all of it", "timeout-usec", "t",
                        UINT64_C(3600000000), "values", "a{ss}", 1, "org.k", "v");
        create(bus, "web/a");
        uint64_t id = property_u64(bus, "web/a", "Id"), created = property_u64(bus, "web/a", "CreatedUSec");
        ck_assert_uint_eq(property_u64(bus, "web/a", "DoneUSec"), UINT64_MAX);
        ck_assert_uint_eq(property_u64(bus, "web/a", "QuiesceUSec"), UINT64_MAX);
        _cleanup_free_ char *path = property_string(bus, "web/a", "Path"),
                            *state = property_string(bus, "web/a", "State"),
                            *cause = property_string(bus, "web/a", "Cause"),
                            *from = property_string(bus, "web/a", "CausePath");
        ck_assert_str_eq(path, "web/a");
        ck_assert_str_eq(state, "active");
        ck_assert_str_eq(cause, "");
        ck_assert_str_eq(from, "");

        OK(bus, "CancelCause", "sis", "web/a", EPIPE, "gone");
        uint64_t done = property_u64(bus, "web/a", "DoneUSec");
        ck_assert_uint_ge(done, created);
        ck_assert_uint_le(done, now_boottime_usec());
        ck_assert_uint_eq(property_u64(bus, "web/a", "QuiesceUSec"), 0);
        snprintf(expected, sizeof expected, "web/a#%ju", (uintmax_t) id);

        ck_assert_int_ge(sd_bus_call_method(bus, CTXD_BUS_NAME, "/org/ctxd1/context/web/a",
                                         "org.freedesktop.DBus.Properties", "GetAll", NULL, &m, "s",
                                         CTXD_CONTEXT_INTERFACE),
                        0);
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "{sv}"), 1);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                const char *text, *comm;
                uint32_t uid, pid;
                int error;

                READ(m, "s", &name);
                found++;
                if (strcmp(name, "Parent") == 0) {
                        READ(m, "v", "o", &text);
                        ck_assert_str_eq(text, "/org/ctxd1/context/web");
                } else if (strcmp(name, "CanceledBy") == 0) {
                        READ(m, "v", "(uus)", &uid, &pid, &comm);
                        ck_assert_uint_eq(uid, getuid());
                        ck_assert_int_eq((pid_t) pid, getpid());
                        ck_assert_str_ne(comm, "");
                } else if (strcmp(name, "CauseError") == 0) {
                        READ(m, "v", "i", &error);
                        ck_assert_int_eq(error, EPIPE);
                } else if (strcmp(name, "CausePath") == 0) {
                        READ(m, "v", "s", &text);
                        ck_assert_str_eq(text, expected);
                } else if (strcmp(name, "Values") == 0) {
                        const char *key, *value;
                        READ(m, "v", "a{ss}", 1, &key, &value);
                        ck_assert_str_eq(key, "org.k");
                } else {
                        ck_assert_int_ge(sd_bus_message_skip(m, "v"), 0);
                }
                ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        }
        ck_assert_uint_eq(found, 18);

        _cleanup_free_ char *top = property_string(bus, "/", "Path");
        ck_assert_str_eq(top, "/");
}
END_TEST

START_TEST(a_deadlines_end_was_nobodys)
{
        _cleanup_message_ sd_bus_message *by = NULL;
        uint32_t uid, pid;
        const char *comm;

        OK(bus, "Create", "sa{sv}", "d", 1, "timeout-usec", "t", UINT64_C(0));
        ck_assert_int_ge(sd_bus_get_property(bus, CTXD_BUS_NAME, "/org/ctxd1/context/d",
                                         CTXD_CONTEXT_INTERFACE, "CanceledBy", NULL, &by, "(uus)"),
                        0);
        READ(by, "(uus)", &uid, &pid, &comm);
        ck_assert_uint_eq(uid, UINT32_MAX);
        ck_assert_uint_eq(pid, 0);
        ck_assert_str_eq(comm, "");
}
END_TEST

START_TEST(objects_that_are_not_there)
{
        static const char *const objects[] = {"/org/ctxd1/context/no", "/org/ctxd1/context/a/no",
                        "/org/ctxd1/context/_", "/org/ctxd1/context/_2e_2e", "/org/ctxd1/contex",
                        "/org/ctxd1/context/_zz", "/"};

        create(bus, "a");
        for (size_t i = 0; i < ELEMENTSOF(objects); i++)
                REFUSED_ON(bus, objects[i], SD_BUS_ERROR_UNKNOWN_OBJECT, "Cancel", "s", "");
        REFUSED_ON(bus, "/org/ctxd1/context/a", SD_BUS_ERROR_UNKNOWN_METHOD, "Nothing", "s", "");
        call_fails(HERE, true, bus, SD_BUS_ERROR_UNKNOWN_METHOD, "/org/ctxd1/context/a",
                        CTXD_MANAGER_INTERFACE, "Cancel", "ss", "a", "");
        call_fails(HERE, true, bus, SD_BUS_ERROR_UNKNOWN_PROPERTY, "/org/ctxd1/context/a",
                        "org.freedesktop.DBus.Properties", "Get", "ss", CTXD_CONTEXT_INTERFACE, "Nothing");
        call_fails(HERE, true, bus, SD_BUS_ERROR_UNKNOWN_PROPERTY, "/org/ctxd1/context/a",
                        "org.freedesktop.DBus.Properties", "Get", "ss", "org.ctxd1.Nothing", "Id");
}
END_TEST

/* Runs another kind of client and returns what it prints. */
__attribute__((format(printf, 1, 2))) static char *output_of(const char *format, ...)
{
        char command[1024], *text = NULL;
        size_t size = 0, n;
        va_list ap;
        FILE *f, *out = open_memstream(&text, &size);
        char buffer[4096];
        int status;

        va_start(ap, format);
        vsnprintf(command, sizeof command, format, ap);
        va_end(ap);
        f = popen(command, "re");
        ck_assert_ptr_nonnull(f);
        while ((n = fread(buffer, 1, sizeof buffer, f)) > 0)
                fwrite(buffer, 1, n, out);
        status = pclose(f);
        fclose(out);
        ck_assert_msg(status == 0, "%s: status 0x%x: %s", command, status, text);
        return text;
}

#define EXPECT_IN(text, part) ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in:\n%s", part, text)

START_TEST(busctl_shows_and_calls)
{
        OK(bus, "Create", "sa{sv}", "web/req-17", 1, "parents", "b", 1);
        _cleanup_free_ char *tree =
                        output_of("busctl --address=%s --list tree org.ctxd1 2>&1", world.daemon.address);
        EXPECT_IN(tree, "/org/ctxd1\n");
        EXPECT_IN(tree, "/org/ctxd1/context\n");
        EXPECT_IN(tree, "/org/ctxd1/context/web\n");
        EXPECT_IN(tree, "/org/ctxd1/context/web/req_2d17\n");

        _cleanup_free_ char *object = output_of(
                        "busctl --address=%s introspect org.ctxd1 /org/ctxd1/context/web/req_2d17 2>&1",
                        world.daemon.address);
        EXPECT_IN(object, "org.ctxd1.Context");
        EXPECT_IN(object, "\"web/req-17\"");
        EXPECT_IN(object, "\"active\"");
        EXPECT_IN(object, ".Derive");

        _cleanup_free_ char *manager = output_of(
                        "busctl --address=%s introspect org.ctxd1 /org/ctxd1 2>&1", world.daemon.address);
        EXPECT_IN(manager, ".CancelCause");
        EXPECT_IN(manager, "\"" CTXD_VERSION "\"");

        _cleanup_free_ char *cancelled =
                        output_of("busctl --address=%s call org.ctxd1 /org/ctxd1 org.ctxd1.Manager "
                                  "Cancel ss web 'user went away' 2>&1",
                                        world.daemon.address);
        ck_assert_str_eq(cancelled, "buu true 2 0\n");
        EXPECT_ERR(bus, "web/req-17", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "user went away");
        _cleanup_free_ char *err = output_of(
                        "busctl --address=%s call org.ctxd1 /org/ctxd1 org.ctxd1.Manager Err s web 2>&1",
                        world.daemon.address);
        ck_assert_str_eq(err, "siis \"context canceled\" 125 125 \"user went away\"\n");
        _cleanup_free_ char *state =
                        output_of("busctl --address=%s get-property org.ctxd1 /org/ctxd1/context/web "
                                  "org.ctxd1.Context State Cause 2>&1",
                                        world.daemon.address);
        ck_assert_str_eq(state, "s \"canceled\"\ns \"user went away\"\n");
}
END_TEST

static bool have(const char *command)
{
        char text[128];

        snprintf(text, sizeof text, "%s >/dev/null 2>&1", command);
        return system(text) == 0;
}

START_TEST(gdbus_shows_and_calls)
{
        if (!have("gdbus help"))
                return; /* main() says that it is not there */
        _cleanup_free_ char *made = output_of(
                        "gdbus call --address %s%s --object-path /org/ctxd1 --method "
                        "org.ctxd1.Manager.Create build '{\"timeout-usec\": <uint64 3600000000>}' 2>&1",
                        world.daemon.address, " --dest org.ctxd1");
        EXPECT_IN(made, "('build', uint64 ");
        EXPECT_ACTIVE(bus, "build");
        _cleanup_free_ char *tree = output_of("gdbus introspect --address %s --dest org.ctxd1 --object-path "
                                              "/org/ctxd1/context --recurse 2>&1",
                        world.daemon.address);
        EXPECT_IN(tree, "node /org/ctxd1/context/build {");
        _cleanup_free_ char *cancelled = output_of(
                        "gdbus call --address %s --dest org.ctxd1 --object-path "
                        "/org/ctxd1/context/build --method org.ctxd1.Context.Cancel 'by gdbus' 2>&1",
                        world.daemon.address);
        ck_assert_str_eq(cancelled, "(true, uint32 1, uint32 0)\n");
        EXPECT_ERR(bus, "build", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "by gdbus");
}
END_TEST

START_TEST(python_calls_and_hears)
{
        if (!have("/usr/bin/python3 -c 'import dbus, gi'"))
                return;
        _cleanup_free_ char *said = output_of(
                        "/usr/bin/python3 '%s' %s 2>&1", getenv("PYTHON_CLIENT"), world.daemon.address);
        ck_assert_str_eq(said, "made py\nintrospected\nproperty active\nheard ContextDone py context "
                               "canceled by python\nhandle readable\n"
                               "refused org.ctxd1.Error.NoSuchContext\n");
}
END_TEST

START_TEST(gio_calls_and_hears)
{
        if (!have("/usr/bin/python3 -c 'import gi'"))
                return;
        _cleanup_free_ char *said = output_of(
                        "/usr/bin/python3 '%s' %s 2>&1", getenv("GIO_CLIENT"), world.daemon.address);
        ck_assert_str_eq(said, "unique name\nmade gio /org/ctxd1/context/gio\n"
                               "introspected ['org.ctxd1.Context']\nproperty by Gio\n"
                               "heard ContextDone gio context canceled\nreadable 1 1\n"
                               "refused org.ctxd1.Error.NoSuchContext\n");
}
END_TEST

Suite *suite_objects(void)
{
        Suite *s = suite_create("objects");

        if (!have("gdbus help"))
                puts("# gdbus (libglib2.0-bin) is not installed: its test does nothing");
        if (!have("/usr/bin/python3 -c 'import dbus, gi'"))
                puts("# python3-dbus or python3-gi is not installed: its test does nothing");
        ADD_TESTS(s, "objects", start_retaining, introspection_is_what_the_xml_says, the_tree_of_objects,
                        properties_of_an_object, a_deadlines_end_was_nobodys, objects_that_are_not_there,
                        busctl_shows_and_calls, gdbus_shows_and_calls, gio_calls_and_hears,
                        python_calls_and_hears);
        return s;
}
