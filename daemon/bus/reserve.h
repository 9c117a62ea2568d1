/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What is kept for root, so that it can end what has used up the memory or the descriptors: its connection
 * is accepted and its calls work when those of others fail. The memory is address space that nobody has
 * touched. It and the descriptors are given up while root is served, and had again before anybody else is,
 * as far as root's connection does not keep some of it. So nobody else can use it up.
 *
 * Over a bus this works less well. The bus has one queue for the calls of all, and sd-bus takes memory to
 * read a message before anybody knows whose it is. Where there is none for that the connection to the bus
 * ends, and is tried again. Root's calls that have been read are served with the reserve. But it is the
 * direct socket by which root comes in for sure, and ctxctl uses that first. */

#define RESERVE_PIECES 64
#define RESERVE_DESCRIPTORS 8

struct users;

struct reserve {
        void *pieces[RESERVE_PIECES]; /* NULL: given up, or not to be had */
        int fds[RESERVE_DESCRIPTORS]; /* -1: the same */
        bool is_short;                /* something has failed, and there may be no more by now */
        uint64_t warned_usec[2];      /* when memory, and descriptors, were logged last; 0: never */
};

void reserve_init(struct reserve *r); /* reserve_refill() is the first to take something */
void reserve_deinit(struct reserve *r);

/* Whether this error says that the memory or the descriptors are used up. */
bool reserve_is_about(int error);
/* A connection or a call has failed with that error. Says so in the log, with who holds the most, but not
 * often. */
void reserve_note(struct reserve *r, const struct users *users, int error);

/* Gives everything up, if something has failed and uid is root's. Returns whether it did, and then
 * reserve_refill() has to come before anybody else is served. */
bool reserve_lend(struct reserve *r, uid_t uid);
/* The same whatever uid it is for, which is not known before a connection is accepted. */
void reserve_give(struct reserve *r);
/* Takes what is missing, as far as it is to be had. */
void reserve_refill(struct reserve *r);
