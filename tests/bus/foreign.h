/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <check.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>

#include "raw.h"
#include "tests/harness/fuse.h"

/* Sends a descriptor to Attach on some connections, and waits for so many answers (unsigned *userdata). */
void send_file_of_crowd(int fd, void *userdata);
/* A process attaches itself to a context of its own, and cancels it. */
void attach_self(void *userdata);

void attach_message(struct raw *m);
/* The answer to that says that it is none. */
void expect_no_pidfd(int fd);
/* Where sockets that linger connect to. */
int lingering_listener(struct sockaddr_in *ret);
/* A socket that takes minutes to close. */
int lingering_socket(const struct sockaddr_in *address);
/* A socket with such a socket in it, which who looks does not see. */
int socket_with_lingering(const struct sockaddr_in *address);
/* As where clients have filled the table: with a crowd, since no more descriptors than the limit may be on
 * their way from all processes of a uid, other tests' as well. Returns what held before. */
#define FILLING 1000
struct rlimit fill_table(int crowd[FILLING]);
/* Not even the end of a daemon waits for files of Alice that hang. hangs: waits until they do. */
void ends_in_spite_of(const char *config, struct hung_file h, int signal_number,
                void (*send)(int directory, void *userdata), void *userdata,
                bool (*hangs)(struct hung_file *h));

void add_refused(Suite *s);     /* refused.c */
void add_wakes(Suite *s);       /* wakes.c */
void add_given(Suite *s);       /* given.c */
void add_last_close(Suite *s);  /* last-close.c */
void add_locked(Suite *s);      /* locked.c */
void add_held_alive(Suite *s);  /* held-alive.c */
void add_held_proc(Suite *s);   /* held-proc.c */
void add_held_charge(Suite *s); /* held-charge.c */

/* closers.c */

/* The one that starts those who look at descriptors. */
pid_t closer_of_daemon(void);
/* Those that look for all, when there is none left that does something for one user. */
unsigned hands_for_all(pid_t closer, pid_t *ret_pids);
/* How many processes that look at descriptors there are which were not there when this was asked last. */
unsigned new_closers(pid_t closer);
void add_closers(Suite *s);
/* Attaches over a bus without a look at the answer. */
void send_fds(sd_bus *b, const int *fds, unsigned n);
/* Waits until the daemon, which is stopped, has so many of them in its socket, and the bus has none. */
void bus_has_passed_on(unsigned n);
/* Those of closers-of-bus.c. */
void add_closers_of_bus(Suite *s);
void add_long_replies(Suite *s);
