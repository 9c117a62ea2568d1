/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A real ctxd on a bus of its own, and the calls that tests make. A test case starts one daemon, and one
 * bus if there is a bus, before its tests, and stops both after them. Each test runs in a process of its
 * own. After each test the daemon must have as many descriptors open as before it. */

#include <check.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "util/cleanup.h"
#include "proto/names.h"
#include "tests/harness/base.h"
#include "tests/harness/bus.h"
#include "tests/harness/daemon.h"
#include "tests/harness/process.h"
#include "tests/harness/suite.h"

enum transport {
        TRANSPORT_DIRECT,
        TRANSPORT_DBUS_DAEMON,
        TRANSPORT_DBUS_BROKER,
};

struct world {
        enum transport transport;
        struct daemon daemon; /* where it is "system", it asks polkit */
        struct private_bus bus;
        pid_t polkitd, polkitds_keeper;
        unsigned fds; /* that the daemon has open when it is idle */
        /* Set before world_start(), for that daemon alone. */
        unsigned table; /* how many descriptors it may open; 0: as many as we */
        uid_t uid;      /* whose it is, without capabilities; 0: ours */
        bool no_pidfd;  /* as before Linux 6.5, a socket does not give its peer's */
        bool no_rights; /* as before Linux 6.16, a socket cannot refuse descriptors */
};

extern struct world world;

/* Chooses the transport by the name on the command line. Exits with 2 if there is no such transport. If its
 * program is not installed, says that all tests are skipped, and exits. */
void world_choose(const char *name);

/* Start and stop the bus and the daemon. The lines go into the daemon's configuration after Probe=off, or
 * after Probe=proc with a probe program. What fails ends the process, so that no test runs on a broken
 * base. */
void world_start(const char *config, const char *probe);
void world_stop(void);
void world_prepare(const char *config, const char *probe); /* all but the start of the daemon */
void world_bus_start(void);

/* For checked fixtures. The first connects `bus`. The second releases all contexts and waits until the
 * daemon has as many descriptors open as at the start. */
extern sd_bus *bus;
void test_setup(void);
void test_teardown(void);
void release_all(void);
char *daemon_log(void);            /* all that it has said; the caller frees */
unsigned logged(const char *what); /* how often it says that this limit was reached */
unsigned settled_fds(void);        /* once the daemon has come to rest */
void stop_daemon(void);            /* until SIGCONT */
void expect_fds(unsigned expected);

void add_tests(Suite *s, const char *name, void (*start)(void), const TTest *const *tests);
#define ADD_TESTS(suite, name, start, ...) \
        add_tests(suite, name, start, (const TTest *const[]){__VA_ARGS__, NULL})
void start_plain(void);     /* forgets what is done after a second */
void start_retaining(void); /* keeps it for all of a test */

sd_bus *connect_bus(void);
/* Connects a bare socket to the direct bus. Returns it, or a negative errno. */
int connect_socket(void);

/* Calls of the Manager. CALL expects success and returns the reply. FAILS expects an error of that name
 * with a sentence. REFUSED also expects that nothing has changed (law 35). */
#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)
#define _cleanup_bus_ _cleanup_(sd_bus_flush_close_unrefp)

struct where {
        const char *file;
        int line;
};
#define HERE ((struct where){__FILE__, __LINE__})

sd_bus_message *call(struct where w, sd_bus *b, const char *object, const char *interface, const char *member,
                const char *types, ...);
void call_ok(struct where w, sd_bus *b, const char *object, const char *interface, const char *member,
                const char *types, ...);
void call_fails(struct where w, bool nothing_changes, sd_bus *b, const char *error, const char *object,
                const char *interface, const char *member, const char *types, ...);

#define CALL(b, ...) call(HERE, b, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, __VA_ARGS__)
#define OK(b, ...) call_ok(HERE, b, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, __VA_ARGS__)
#define FAILS(b, error, ...) \
        call_fails(HERE, false, b, error, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, __VA_ARGS__)
#define REFUSED(b, error, ...) \
        call_fails(HERE, true, b, error, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, __VA_ARGS__)
#define CALL_ON(b, object, ...) call(HERE, b, object, CTXD_CONTEXT_INTERFACE, __VA_ARGS__)
#define OK_ON(b, object, ...) call_ok(HERE, b, object, CTXD_CONTEXT_INTERFACE, __VA_ARGS__)
#define REFUSED_ON(b, object, error, ...) \
        call_fails(HERE, true, b, error, object, CTXD_CONTEXT_INTERFACE, __VA_ARGS__)

#define READ(m, ...) ck_assert_int_gt(sd_bus_message_read(m, __VA_ARGS__), 0)

/* Makes a call with these arguments (types NULL: none). The caller sends it and drops it. */
sd_bus_message *new_callv(sd_bus *b, const char *object, const char *interface, const char *member,
                const char *types, va_list ap);
/* Sends a message that was built by hand. Returns the reply, or NULL and the error. */
sd_bus_message *send_call(sd_bus *b, sd_bus_message *m, sd_bus_error *ret_error);

/* Makes a context without any option. */
uint64_t create(sd_bus *b, const char *path);
bool cancel(sd_bus *b, const char *path, const char *reason); /* first? */
int code_of(sd_bus *b, const char *path);                     /* Err's code */
void expect_err(struct where w, sd_bus *b, const char *path, const char *err, int code, int error,
                const char *cause);
#define EXPECT_ERR(...) expect_err(HERE, __VA_ARGS__)
#define EXPECT_ACTIVE(b, path) expect_err(HERE, b, path, "", 0, 0, "")

int done_handle(sd_bus *b, const char *path); /* the caller's to close */
int lifeline_of(sd_bus *b, const char *path); /* also */

/* The object of a context, which the caller frees. */
char *object_of(const char *path);
uint64_t property_u64(sd_bus *b, const char *path, const char *name);
char *property_string(sd_bus *b, const char *path, const char *name);

/* All that List returns, and the Manager's counts. If two of these are equal, nothing has changed between
 * them. The caller frees it. */
char *snapshot(sd_bus *b);
unsigned count_listed(sd_bus *b, const char *prefix);
unsigned length_of(sd_bus_message *m, const char *type); /* the entries of the array that comes next */
/* Checks that b is shown nothing of that member under the path. */
void expect_no_members(sd_bus *b, const char *path, pid_t pid);

/* What other clients do meanwhile: creates, takes handles and cancels, n times. */
void work(sd_bus *b, unsigned n);

#define ALICE 1001
#define BOB 1002

/* A polkit of the test's own. It runs in a mount namespace with our actions, rules and users, and sees
 * nothing of this machine's. If that is not possible, prints the reason and returns false. */
bool polkit_enter(void);
void start_polkit(void);         /* and a bus, and a daemon */
void start_without_polkit(void); /* the same, where none is installed */
void polkitd_start(void);
void polkitd_stop(void);
void polkit_thinks(void); /* until it answers */
void polkit_answers(void);
/* What the rules say. Alice: always yes. Bob: no. Carol: after somebody has authenticated. */
#define CAROL 1003
#define DAVE 1004  /* may read, and no more */
#define ERIN 1005  /* may make first labels, and no more */
#define FRANK 1006 /* may cancel what is called jobs/... */
#define DAEMON 990

Suite *suite_large(void);
Suite *suite_laws(void);
Suite *suite_deadlines(void);
Suite *suite_making(void);
Suite *suite_handles(void);
Suite *suite_ends(void);
Suite *suite_kin(void);
Suite *suite_members(void);
Suite *suite_endings(void);
Suite *suite_endings_of_uids(void);
Suite *suite_query(void);
Suite *suite_signals(void);
Suite *suite_refusals(void);
Suite *suite_objects(void);
Suite *suite_values(void);
Suite *suite_garbage(void);
Suite *suite_crowd(void);
Suite *suite_hostile(void);
Suite *suite_bus_gone(void);
Suite *suite_lazy(void);
Suite *suite_quotas(void);
Suite *suite_polkit(void);
Suite *suite_polkit_actions(void);
Suite *suite_polkit_waits(void);
Suite *suite_polkit_agent(void);
Suite *suite_polkit_clients(void);
Suite *suite_uids(void);
Suite *suite_identity(void);
Suite *suite_leaks(void);
Suite *suite_matrix(void);
Suite *suite_modes(void);
Suite *suite_hidden(void);
Suite *suite_reserve(void);
Suite *suite_descriptors(void);
void add_unsent(Suite *s); /* unsent.c */
Suite *suite_foreign(void);
Suite *suite_quotas_of_uids(void);
Suite *suite_pools(void);
Suite *suite_pools_of_polkit(void);
Suite *suite_turns(void);
Suite *suite_turns_of_uids(void);
Suite *suite_slots(void);
Suite *suite_members_of_probe(void);
Suite *suite_slots_of_probe(void);
