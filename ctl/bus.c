/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/authorize.h"
#include "ctl/bus.h"
#include "ctl/line.h"
#include "proto/daemon-address.h"

#define DIRECT_ADDRESS "unix:path=" CTXD_SYSTEM_SOCKET

/* A ctxd that answers has that much time, however little is left: what it says is better than an error. */
#define ANSWER_LEAST_USEC UINT64_C(1000000)
#define ANSWER_USEC UINT64_C(25000000) /* as sd-bus waits */
/* A ctxd that is there takes a connection within this time. */
#define CONNECT_USEC UINT64_C(10000000)

uint64_t bus_answers_until(const struct ctl *ctl)
{
        uint64_t now = now_monotonic_usec(), least = now + ANSWER_LEAST_USEC;

        if (ctl->answers_until_usec == UINT64_MAX)
                return now + (ctl->answer_usec > 0 ? ctl->answer_usec : ANSWER_USEC);
        return ctl->answers_until_usec > least ? ctl->answers_until_usec : least;
}

static const char *how_to_start(const struct ctl *ctl, const char *given)
{
        if (given && !strchr(given, '='))
                return "; an address is unix:path=/run/ctxd/bus, for example";
        if (given)
                return ctl->address ? "; --address= names it" : "; $" CTXD_ENV_ADDRESS " names it";
        if (!ctl->user)
                return "; systemctl start ctxd starts it";
        return getenv("XDG_RUNTIME_DIR") ? "; systemctl --user start ctxd starts it"
                                         : "; XDG_RUNTIME_DIR is not set, so this is no session of a user";
}

const char *bus_given_address(const struct ctl *ctl)
{
        return ctl->address ? ctl->address : ctl->user ? NULL : daemon_given_address(NULL);
}

int bus_not_reached(const struct ctl *ctl, const char *why, int r)
{
        print_error("cannot reach ctxd %s%s", why, how_to_start(ctl, bus_given_address(ctl)));
        return r == -EACCES || r == -EPERM ? EXIT_NOT_ALLOWED : EXIT_FAILED;
}

int bus_has_reached(struct ctl *ctl, const char *address)
{
        ctl->direct = strcmp(address, DIRECT_ADDRESS) == 0;
        free(ctl->reached);
        ctl->reached = NULL;
        if (!ctl->user && !bus_given_address(ctl))
                return 0;
        ctl->reached = strdup(address);
        return ctl->reached ? 0 : bus_broken(-ENOMEM);
}

uint64_t bus_connects_until(const struct ctl *ctl)
{
        uint64_t until_usec = now_monotonic_usec() + CONNECT_USEC, answers_usec = bus_answers_until(ctl);

        return until_usec < answers_usec ? until_usec : answers_usec;
}

int bus_connect(struct ctl *ctl)
{
        const char *given = bus_given_address(ctl), *found;
        char why[512];
        int r;

        if (ctl->bus)
                return 0;
        r = daemon_connect(given, ctl->user, bus_connects_until(ctl), &ctl->bus, why, sizeof why);
        if (r < 0)
                return bus_not_reached(ctl, why, r);
        if (ctl->answer_usec > 0)
                (void) sd_bus_set_method_call_timeout(ctl->bus, ctl->answer_usec);
        r = sd_bus_get_address(ctl->bus, &found);
        if (given || r >= 0)
                return bus_has_reached(ctl, given ? given : found);
        return 0;
}

void bus_answers_within(struct ctl *ctl, uint64_t usec)
{
        uint64_t now = now_monotonic_usec();

        ctl->answers_until_usec = usec < UINT64_MAX - now ? now + usec : UINT64_MAX;
}

void bus_wait_for_answers(struct ctl *ctl, uint64_t usec)
{
        ctl->answers_until_usec = UINT64_MAX;
        ctl->answer_usec = usec;
        if (ctl->bus)
                (void) sd_bus_set_method_call_timeout(ctl->bus, usec);
}

int bus_fd(const struct ctl *ctl)
{
        return ctl->line ? line_fd(ctl->line) : sd_bus_get_fd(ctl->bus);
}

bool bus_is_service(const struct ctl *ctl)
{
        return ctl->direct || (ctl->user ? !ctl->address : !ctl->reached);
}

struct bus_ahead {
        struct bus_ahead *next;
        const char *member, *path;
        sd_bus_slot *slot;
        sd_bus_message *reply;
};

static int take_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct bus_ahead *a = userdata;

        a->reply = sd_bus_message_ref(m);
        return 1;
}

static struct bus_ahead *ahead_free(struct bus_ahead *a)
{
        struct bus_ahead *next = a->next;

        sd_bus_slot_unref(a->slot);
        sd_bus_message_unref(a->reply);
        free(a);
        return next;
}

void bus_disconnect(struct ctl *ctl)
{
        authorize_done(ctl);
        while (ctl->ahead)
                ctl->ahead = ahead_free(ctl->ahead);
        line_close(ctl);
        ctl->bus = sd_bus_flush_close_unref(ctl->bus);
        free(ctl->reached);
        ctl->reached = NULL;
}

/* ~ is a context's label as well as the shell's word for a directory. */
static bool home_is_named(const struct ctl *ctl)
{
        const char *home = getenv("HOME");
        size_t n = home ? strlen(home) : 0;

        for (char **a = ctl->argv; n > 1 && *a && strcmp(*a, "--") != 0; a++) {
                if (strncmp(*a, home, n) == 0 && ((*a)[n] == '/' || (*a)[n] == '\0'))
                        return true;
                if (**a != '-' && strcmp(ctl->verb->name, "run") == 0)
                        break; /* what follows is the command */
        }
        return false;
}

/* What to do next. The daemon does not know by which command it is asked. */
static const char *hint(const struct ctl *ctl, const sd_bus_error *error)
{
        static const struct {
                const char *name, *verb, *text;
        } hints[] = {
                        {CTXD_ERROR_NO_SUCH_CONTEXT, "create", "make it first, or use --parents"},
                        {CTXD_ERROR_NO_SUCH_CONTEXT, "run", "make it first, or use --parents"},
                        {CTXD_ERROR_NO_SUCH_CONTEXT, "attach", "make it first, with ctxctl create"},
                        {CTXD_ERROR_NO_SUCH_CONTEXT, NULL, "ctxctl list shows which there are"},
                        {CTXD_ERROR_EXISTS, "create", "--open uses it as it is"},
                        {CTXD_ERROR_ALREADY_DONE, "create", "ctxctl release frees its name"},
                        {CTXD_ERROR_ALREADY_DONE, "attach", "ctxctl create makes a new one of that name"},
                        {CTXD_ERROR_ALREADY_DONE, "extend", "ctxctl create makes a new one of that name"},
                        {CTXD_ERROR_INVALID_NAME, NULL, "write build/compile, for example"},
        };

        if (sd_bus_error_has_name(error, CTXD_ERROR_NO_SUCH_CONTEXT) && home_is_named(ctl))
                return "your shell has put your home directory in place of ~: write '~/...' in quotes";
        if (sd_bus_error_has_name(error, CTXD_ERROR_ACCESS_DENIED) &&
                        strstr(error->message, "you may read it"))
                return "ctxctl status shows whose it is, and its mode";

        for (size_t i = 0; i < ELEMENTSOF(hints); i++)
                if (sd_bus_error_has_name(error, hints[i].name) &&
                                (!hints[i].verb || strcmp(hints[i].verb, ctl->verb->name) == 0))
                        return hints[i].text;
        return NULL;
}

int bus_failed(const struct ctl *ctl, const sd_bus_error *error, int r)
{
        static const struct {
                const char *name;
                int status;
        } statuses[] = {
                        {CTXD_ERROR_NO_SUCH_CONTEXT, EXIT_NO_SUCH_CONTEXT},
                        {CTXD_ERROR_ACCESS_DENIED, EXIT_NOT_ALLOWED},
                        {SD_BUS_ERROR_ACCESS_DENIED, EXIT_NOT_ALLOWED},
                        {SD_BUS_ERROR_AUTH_FAILED, EXIT_NOT_ALLOWED},
                        {SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EXIT_NOT_ALLOWED},
        };
        static bool has_lost;
        const char *next, *about = "";

        if (r == -ETIMEDOUT) {
                print_error("ctxd does not answer");
                return EXIT_FAILED;
        }
        /* sd-bus makes an error of it where the connection ends during a call. What is tried after that fails
         * as well, and is not told. */
        if (!sd_bus_error_is_set(error) || r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE) {
                if (!has_lost)
                        print_error("lost the connection to ctxd: %s%s", strerror(-r),
                                        ctl->address || getenv(CTXD_ENV_ADDRESS)
                                                        ? ""
                                                        : "; systemctl status ctxd may say why");
                has_lost = true;
                return EXIT_FAILED;
        }
        if (ctl->about && !sd_bus_error_has_name(error, CTXD_ERROR_NO_SUCH_CONTEXT))
                about = ctl->about;
        next = hint(ctl, error);
        if (sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER)) {
                if (!has_lost)
                        print_error("ctxd is not running: %s; systemctl start ctxd starts it",
                                        error->message);
                has_lost = true;
        } else
                print_error("%s%s%s%s%s", about, *about ? ": " : "",
                                error->message ? error->message : error->name, next ? "; " : "",
                                next ? next : "");
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++)
                if (sd_bus_error_has_name(error, statuses[i].name))
                        return statuses[i].status;
        return EXIT_FAILED;
}

int bus_broken(int r)
{
        print_error(r == -ENOMEM ? "out of memory" : "cannot understand ctxd's reply: %s", strerror(-r));
        return EXIT_FAILED;
}

int bus_bad_arguments(int r)
{
        print_error("cannot send this over D-Bus: %s", strerror(-r));
        return EXIT_FAILED;
}

int bus_message(struct ctl *ctl, sd_bus_message **ret, const char *member)
{
        int r = bus_connect(ctl);

        if (r > 0)
                return r;
        r = sd_bus_message_new_method_call(
                        ctl->bus, ret, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member);
        return r < 0 ? bus_broken(r) : 0;
}

/* 0: as long as sd-bus waits. */
static uint64_t time_for_answer(const struct ctl *ctl)
{
        return ctl->answers_until_usec == UINT64_MAX ? 0 : bus_answers_until(ctl) - now_monotonic_usec();
}

int bus_send(struct ctl *ctl, sd_bus_message *m, const char *expected, sd_bus_message **ret_reply)
{
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call(ctl->bus, m, time_for_answer(ctl), &error, ret_reply);

        if (r < 0 && !ctl->user &&
                        sd_bus_error_has_name(&error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                r = authorize_and_call(ctl, m, ret_reply, &error);
        if (r >= 0)
                return 0;
        ctl->unanswered |= r == -ETIMEDOUT;
        if (ctl->is_extra || (expected && sd_bus_error_has_name(&error, expected)))
                return BUS_EXPECTED;
        return bus_failed(ctl, &error, r);
}

void bus_send_ahead(struct ctl *ctl, const char *member, const char *path)
{
        struct bus_ahead *a;

        if (ctl->line) {
                line_send_ahead(ctl, member, path);
                return;
        }
        a = calloc(1, sizeof *a);
        /* Where that fails bus_call() makes the call. */
        if (!a || sd_bus_call_method_async(ctl->bus, &a->slot, CTXD_BUS_NAME, CTXD_OBJECT,
                                  CTXD_MANAGER_INTERFACE, member, take_reply, a, "s", path) < 0) {
                free(a);
                return;
        }
        a->member = member;
        a->path = path;
        a->next = ctl->ahead;
        ctl->ahead = a;
}

static struct bus_ahead **find_ahead(struct ctl *ctl, const char *member, const char *path)
{
        struct bus_ahead **a = &ctl->ahead;

        while (*a && (strcmp((*a)->member, member) != 0 || (*a)->path != path))
                a = &(*a)->next;
        return a;
}

static int wait_for_ahead(struct ctl *ctl, struct bus_ahead *a, sd_bus_message **ret_reply)
{
        int r = 0;

        while (!a->reply && r >= 0)
                if ((r = sd_bus_process(ctl->bus, NULL)) == 0)
                        r = sd_bus_wait(ctl->bus, UINT64_MAX);
        if (!a->reply || sd_bus_is_open(ctl->bus) <= 0)
                return bus_failed(ctl, &SD_BUS_ERROR_NULL, r < 0 ? r : -ECONNRESET);
        if (sd_bus_message_is_method_error(a->reply, ctl->missing_is_fine ? CTXD_ERROR_NO_SUCH_CONTEXT : ""))
                return EXIT_NO_SUCH_CONTEXT;
        if (sd_bus_message_is_method_error(a->reply, NULL))
                return bus_failed(
                                ctl, sd_bus_message_get_error(a->reply), -sd_bus_message_get_errno(a->reply));
        if (ret_reply)
                *ret_reply = sd_bus_message_ref(a->reply);
        return 0;
}

/* Texts alone are said by a line, if what is answered is of no use. */
static int call_by_line(struct ctl *ctl, const char *member, const char *types, va_list ap)
{
        bool has_reason = strcmp(types, "ss") == 0;
        const char *path;

        if (!has_reason && strcmp(types, "s") != 0)
                return LINE_REFUSED;
        path = va_arg(ap, const char *);
        return line_call(ctl, member, path, has_reason ? va_arg(ap, const char *) : NULL);
}

int bus_call(struct ctl *ctl, sd_bus_message **ret_reply, const char *member, const char *types, ...)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        struct bus_ahead **ahead = NULL;
        va_list ap;
        int r;

        if (ctl->line && !ret_reply) {
                va_start(ap, types);
                r = call_by_line(ctl, member, types, ap);
                va_end(ap);
                if (r != LINE_REFUSED)
                        return r;
        }
        if (ctl->ahead && strcmp(types, "s") == 0) {
                va_start(ap, types);
                ahead = find_ahead(ctl, member, va_arg(ap, const char *));
                va_end(ap);
        }
        if (ahead && *ahead) {
                r = wait_for_ahead(ctl, *ahead, ret_reply);
                *ahead = ahead_free(*ahead);
                return r;
        }
        r = bus_message(ctl, &m, member);
        if (r > 0)
                return r;
        if (*types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(m, types, ap);
                va_end(ap);
                if (r < 0)
                        return bus_bad_arguments(r);
        }
        r = bus_send(ctl, m, ctl->missing_is_fine ? CTXD_ERROR_NO_SUCH_CONTEXT : NULL, ret_reply);
        return r == BUS_EXPECTED ? EXIT_NO_SUCH_CONTEXT : r;
}

int bus_properties(struct ctl *ctl, const char *object, const char *interface, const char *expected,
                sd_bus_message **ret_reply)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int r = bus_connect(ctl);

        if (r > 0)
                return r;
        r = sd_bus_message_new_method_call(
                        ctl->bus, &m, CTXD_BUS_NAME, object, "org.freedesktop.DBus.Properties", "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        return r < 0 ? bus_broken(r) : bus_send(ctl, m, expected, ret_reply);
}

int bus_property(struct ctl *ctl, const char *name, char **ret)
{
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = bus_connect(ctl);

        if (r > 0)
                return r;
        r = sd_bus_get_property_string(
                        ctl->bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, name, &error, ret);
        return r < 0 ? bus_failed(ctl, &error, r) : 0;
}
