/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The structs that programs are built with, as version 0.1 had them: doc/ABI.md promises that these numbers
 * never change while the soname is the same. It is enough that this file compiles. A field that is added gets
 * a line; no line is changed. */

#include <ctxclient.h>

#define OPTION(type, field, at) \
        _Static_assert(offsetof(struct ctx_##type##_options, field) == (at), #type "." #field " has moved")

#if UINTPTR_MAX > UINT32_MAX
OPTION(create, size, 0);
OPTION(create, flags, 8);
OPTION(create, mode, 12);
OPTION(create, timeout_usec, 16);
OPTION(create, deadline_usec, 24);
OPTION(create, cause_message, 32);
OPTION(create, cause_error, 40);
OPTION(create, owner_pidfd, 44);
OPTION(create, values, 48);
OPTION(create, description, 56);
OPTION(create, grace_usec, 64);
_Static_assert(CTX_CREATE_OPTIONS_SIZE_VER0 == 72, "version 0 is over");

OPTION(spawn, size, 0);
OPTION(spawn, signal, 8);
OPTION(spawn, fds, 12);
OPTION(spawn, kill_after_usec, 24);
OPTION(spawn, env, 32);
OPTION(spawn, directory, 40);
OPTION(spawn, flags, 48);
_Static_assert(CTX_SPAWN_OPTIONS_SIZE_VER0 == 48, "version 0 is over");
_Static_assert(CTX_SPAWN_OPTIONS_SIZE_VER1 == 56, "version 1 is over");
#endif

/* These do not grow. */
_Static_assert(sizeof(struct ctx_key) == sizeof(char *), "a key is a name");
_Static_assert(sizeof(struct ctx_mutex) == 4, "a mutex is one word");
_Static_assert(sizeof(struct ctx_cond) == 4, "a condition is one word");
_Static_assert(sizeof(struct ctx_sem) == 8 && offsetof(struct ctx_sem, waiters) == 4,
                "a semaphore is two words");
#if UINTPTR_MAX > UINT32_MAX
_Static_assert(sizeof(struct ctx_chan_case) == 32 && offsetof(struct ctx_chan_case, chan) == 0 &&
                                offsetof(struct ctx_chan_case, op) == 8 &&
                                offsetof(struct ctx_chan_case, result) == 12 &&
                                offsetof(struct ctx_chan_case, send_item) == 16 &&
                                offsetof(struct ctx_chan_case, ret_item) == 24,
                "a case is in the arrays of programs");
#endif
_Static_assert(CTX_CHAN_SEND == 1 && CTX_CHAN_RECV == 2, "operations");
_Static_assert(CTX_SEM_VALUE_MAX == INT32_MAX, "the largest value");

_Static_assert(CTX_CREATE_PARENTS == 1 && CTX_CREATE_OPEN == 2 && CTX_CREATE_UNBOUND == 4 &&
                                CTX_CREATE_REPLACE == 8,
                "flags");
_Static_assert(CTX_MODE_INHERIT == UINT32_MAX, "mode");
_Static_assert(CTX_SIGNAL_DEFAULT == -1 && CTX_KILL_AFTER_DEFAULT == UINT64_MAX - 1, "defaults");
_Static_assert(CTX_DAEMON_GRACE_USEC == 10000000, "grace");
