/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "lib/ctxclient.h"
#include "proto/names.h"

/* The connection to the daemon.
 *
 * sd-bus is not thread-safe, so a client has one connection under one lock, which is held from the making of
 * a message until its reply has been read: client_begin() ... client_end(). After a fork the child shares the
 * parent's socket and, perhaps, a lock that another thread of the parent held: it may touch neither, which
 * client_begin() sees to by comparing pids (-ECHILD). */

struct page;
struct thread_map;

struct ctx_client {
        _Atomic uint32_t refs;    /* the program's, and one for each context */
        pid_t pid;                /* who made it */
        unsigned fork_generation; /* and the same without a system call */
        char *address;            /* as given or found; NULL: the system bus */
        char *reached; /* what a child needs to be told in $CTXD_ADDRESS, or NULL: it finds it by itself */

        pthread_mutex_t lock;
        sd_bus *bus;
        struct page *pages;                 /* mapped for as long as the client lives */
        struct thread_map *_Atomic threads; /* this process's, once a thread has entered a context */
};

struct ctx_client *client_ref(struct ctx_client *client);
bool client_is_inherited(const struct ctx_client *client); /* made before a fork, by another process */

/* 0 with the lock held and the connection open, or -errno. */
int client_begin(struct ctx_client *client);
void client_end(struct ctx_client *client);

/* Between the two. The reply is to be unreferenced before the end. A failure's sentence is kept for
 * ctx_client_error(), the error's name is turned into an errno. */
int client_message(struct ctx_client *client, sd_bus_message **ret, const char *member);
int client_send(struct ctx_client *client, sd_bus_message *m, sd_bus_message **ret_reply);
int client_call(struct ctx_client *client, sd_bus_message **ret_reply, const char *member, const char *types,
                ...);

/* begin, call, end, for a call without a reply to read. */
int client_call_simple(struct ctx_client *client, const char *member, const char *types, ...);

/* Remembers a failure for ctx_client_error(); returns r. text NULL: strerror's. */
int client_failed(struct ctx_client *client, int r, const char *text);

/* Appends one {sv}. */
int append_option(sd_bus_message *m, const char *name, const char *type, ...);
