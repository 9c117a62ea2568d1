/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/proc-reader-internal.h"
#include "util/share.h"

/* A reader that hangs at a process waits on. So it tells when that process can be read again, and until then
 * nobody is held up by it once more. A party (util/share.h) may have some readers that wait. Those beyond
 * are killed, if they can be.
 *
 * The time for which the daemon was held up is charged to the party, too, for each of the two files. One
 * that has used up what it may take is refused altogether for a while, and so is one whose readers cannot be
 * killed. Many processes may each make a reader sleep for a moment, in which it is not looked at: that comes
 * back soon, and the party is refused until it has.
 *
 * Who it is must be known before the read, after which the process may have gone. What /proc shows of
 * processes can be hidden. So it is asked of a pidfd, where the kernel tells (Linux 6.13), and else also
 * found in what the reader has read. */

#define WAITING_MAX 16 /* util/share.h: twice as many, from many parties */
#define KILL_MSEC 10   /* in which a reader that can be killed has ended */
#define PARTIES 64

/* Who has used so much is refused, and of the time one part in so many comes back. */
static const struct {
        uint64_t full_usec, drain;
} shares[] = {
                {60000, 1200}, /* two hangs; 50 ms a minute */
                /* READER_SHORT. Of somebody who does nothing but execute programs readers meet many. */
                {100000, 3},
};

struct waiting {
        struct reader reader; /* .place NULL: none */
        struct reader_target target;
        enum reader_file file;
        bool was_killed;
};

struct party {
        uint32_t party;
        enum reader_file file;
        uint64_t used_usec, at_usec;
};

static uint64_t full_usec(enum reader_file file)
{
        return shares[file == READER_SHORT].full_usec;
}

static uint64_t drain(enum reader_file file)
{
        return shares[file == READER_SHORT].drain;
}

static struct waiting waiting[READER_PLACES];
static struct party parties[PARTIES];
static unsigned n_waiting, n_parties;

/* -- Whose a process is, so that nobody waits. */

int blame_find(pid_t pid, struct reader_target *ret)
{
        int pidfd = pidfd_open_process(pid), r;
        struct pidfd_owner owner;
        struct stat st;
        char path[32];

        *ret = (struct reader_target){.pid = pid, .pidfd = pidfd};
        if (pidfd == -ESRCH)
                return -ESRCH;
        r = pidfd >= 0 ? pidfd_owner(pidfd, &owner) : -EOPNOTSUPP; /* it may be a thread */
        if (r >= 0) {
                ret->party = share_party(owner.uids[0]);
                ret->is_certain = true;
                return 0;
        }
        snprintf(path, sizeof path, "/proc/%d", (int) pid);
        if (r == -ESRCH || stat(path, &st) < 0) {
                blame_forget(ret);
                return -ESRCH;
        }
        ret->party = share_party(st.st_uid);
        ret->is_certain = st.st_uid != 0;
        return 0;
}

void blame_forget(struct reader_target *t)
{
        closep(&t->pidfd);
        t->pidfd = -1;
}

/* The one that a reader reads of. */
static uint32_t party_of(const struct reader_target *t, const struct reader_place *place)
{
        char text[sizeof place->text];
        uid_t uid;

        if (t->is_certain)
                return t->party;
        memcpy(text, place->text, sizeof text - 1);
        text[sizeof text - 1] = '\0';
        return proc_status_uid(text, &uid) ? share_party(uid) : t->party;
}

/* -- What a party has used. */

static void parties_tidy(uint64_t now_usec)
{
        for (unsigned i = 0; i < n_parties; i++) {
                struct party *p = &parties[i];
                uint64_t back = (now_usec - p->at_usec) / drain(p->file);

                if (back < p->used_usec) {
                        p->used_usec -= back;
                        p->at_usec += back * drain(p->file);
                } else {
                        *p = parties[--n_parties];
                        i--;
                }
        }
}

static struct party *party_find(uint32_t party, enum reader_file file)
{
        for (unsigned i = 0; i < n_parties; i++)
                if (parties[i].party == party && parties[i].file == file)
                        return &parties[i];
        return NULL;
}

/* In a full table the one that has used least makes room. */
static struct party *party_add(uint32_t party, enum reader_file file, uint64_t now_usec)
{
        struct party *p = n_parties < PARTIES ? &parties[n_parties++] : &parties[0];

        for (unsigned i = 0; i < n_parties && n_parties == PARTIES; i++)
                if (parties[i].used_usec < p->used_usec)
                        p = &parties[i];
        *p = (struct party){.party = party, .file = file, .at_usec = now_usec};
        return p;
}

static void charge(uint32_t party, enum reader_file file, pid_t pid, uint64_t usec)
{
        uint64_t now_usec = now_monotonic_usec();
        struct party *p;

        parties_tidy(now_usec);
        p = party_find(party, file);
        if (!p && file != READER_SHORT)
                log_warning("Process %d makes who reads it in /proc wait; all have waited for %u ms",
                                (int) pid, (unsigned) (usec / 1000));
        if (!p)
                p = party_add(party, file, now_usec);
        p->used_usec += usec;
}

/* Or anybody, where the party is NULL. */
static bool has_used_up(const uint32_t *party, unsigned files)
{
        parties_tidy(now_monotonic_usec());
        for (unsigned i = 0; i < n_parties; i++)
                if ((!party || parties[i].party == *party) && parties[i].file & files &&
                                parties[i].used_usec >= full_usec(parties[i].file))
                        return true;
        return false;
}

/* -- The readers that wait. */

static void waiting_end(struct waiting *w)
{
        close(w->reader.pidfd);
        blame_forget(&w->target);
        w->reader.place = NULL;
        n_waiting--;
}

static void waiting_tidy(void)
{
        struct pollfd polls[READER_PLACES];

        if (n_waiting == 0)
                return;
        for (unsigned i = 0; i < READER_PLACES; i++)
                polls[i] = (struct pollfd){.fd = waiting[i].reader.place ? waiting[i].reader.pidfd : -1,
                                .events = POLLIN};
        if (poll(polls, READER_PLACES, 0) > 0)
                for (unsigned i = 0; i < READER_PLACES; i++)
                        if (polls[i].fd >= 0 && polls[i].revents)
                                waiting_end(&waiting[i]);
}

/* Or of all, where the party is NULL. */
static unsigned count(const uint32_t *party, bool killed)
{
        unsigned n = 0;

        for (unsigned i = 0; i < READER_PLACES; i++)
                n += waiting[i].reader.place && (waiting[i].was_killed || !killed) &&
                     (!party || waiting[i].target.party == *party);
        return n;
}

/* Whether one waits there. If that process has exited since, another one may have its number. */
static bool is_waited_for(pid_t pid, unsigned files)
{
        for (unsigned i = 0; i < READER_PLACES; i++) {
                const struct waiting *w = &waiting[i];

                if (w->reader.place && w->target.pid == pid && w->file & files && w->target.pidfd >= 0 &&
                                !proc_pidfd_exited(w->target.pidfd))
                        return true;
        }
        return false;
}

/* On older kernels a process can pass for one of root's. So in doubt it may be anybody's. */
bool blame_refuses(const struct reader_target *t, unsigned files)
{
        const uint32_t *party = t->is_certain ? &t->party : NULL;

        if (n_waiting == 0 && n_parties == 0)
                return false;
        waiting_tidy();
        return is_waited_for(t->pid, files) || has_used_up(party, files | READER_SHORT) ||
               !share_admits(count(party, true), count(NULL, true), WAITING_MAX);
}

bool blame_has(const struct reader_place *place)
{
        for (unsigned i = 0; i < READER_PLACES; i++)
                if (waiting[i].reader.place == place)
                        return true;
        return false;
}

static void waiting_kill(struct waiting *w)
{
        struct pollfd p = {.fd = w->reader.pidfd, .events = POLLIN};

        w->was_killed = true;
        (void) pidfd_signal(w->reader.pidfd, SIGKILL);
        (void) poll(&p, 1, KILL_MSEC);
        waiting_tidy();
}

static struct waiting *waiting_add(struct reader *reader, struct reader_target *t)
{
        struct waiting *w = waiting;

        while (w->reader.place)
                w++;
        *w = (struct waiting){.reader = *reader, .target = *t, .file = reader_load(&reader->place->reads)};
        w->target.party = party_of(t, reader->place);
        reader->place = NULL;
        t->pidfd = -1;
        n_waiting++;
        reader_store(&w->reader.place->leave, 1);
        return w;
}

void blame_hang(struct reader *reader, struct reader_target *t, uint64_t usec)
{
        struct waiting *w = waiting_add(reader, t);
        uint32_t party = w->target.party;

        charge(party, w->file, w->target.pid, usec);
        if (!share_admits(count(&party, false) - 1, n_waiting - 1, WAITING_MAX))
                waiting_kill(w);
}

void blame_slow(const struct reader_target *t, const struct reader_place *place, enum reader_file file,
                uint64_t usec)
{
        charge(party_of(t, place), file, t->pid, usec);
}

void blame_short(const struct reader_target *t, const struct reader_place *place)
{
        charge(party_of(t, place), READER_SHORT, t->pid, place->slept_usec);
}

void blame_lost(struct reader *reader, struct reader_target *t)
{
        waiting_kill(waiting_add(reader, t));
}

void blame_end(void)
{
        for (unsigned i = 0; i < READER_PLACES; i++)
                if (waiting[i].reader.place) {
                        (void) pidfd_signal(waiting[i].reader.pidfd, SIGKILL);
                        waiting_end(&waiting[i]);
                }
        n_parties = 0;
}
