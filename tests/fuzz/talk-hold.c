/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fcntl.h>
#include <linux/kcmp.h>

#include "tests/fuzz/talk.h"
#include "proto/names.h"

enum kind {
        HELD_DONE,
        HELD_DRAINED,
        HELD_LIFELINE,
};

static struct held {
        enum kind kind;
        int fd;
        struct node *node;
        uid_t uid;
} held[128];
static unsigned n_held;

static void drop(unsigned i)
{
        close(held[i].fd);
        held[i] = held[--n_held];
}

static bool is_same_file(int a, int b)
{
        return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b) == 0;
}

/* Of one uid, all handles of a context are copies of one; of two uids, never. */
static void compare_with_others(const struct held *h)
{
        for (unsigned i = 0; i < n_held; i++)
                if (held[i].kind == h->kind && held[i].node == h->node && !h->node->done)
                        REQUIRE(is_same_file(held[i].fd, h->fd) == (held[i].uid == h->uid));
}

static void keep(struct client *c, enum kind kind, struct node *n)
{
        struct held h = {.kind = kind, .node = n, .uid = c->who->uid};

        READ(c, "h", &h.fd);
        h.fd = fcntl(h.fd, F_DUPFD_CLOEXEC, 3);
        REQUIRE(h.fd >= 0 && n_held < sizeof held / sizeof *held);
        if (kind == HELD_DONE)
                compare_with_others(&h);
        held[n_held++] = h;
}

void talk_done(struct client *c, struct input *in)
{
        bool drained = input_byte(in) & 1;
        struct answer answer;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_find(c->who, &name, &answer);
        if (n && !n->parent)
                answer.error = CTXD_ERROR_NOT_CANCELABLE;
        call_on(c, &name, &answer, drained ? "Drained" : "Done", "");
        if (is_answered(c, &answer))
                keep(c, drained ? HELD_DRAINED : HELD_DONE, n);
}

/* Takes only what that uid holds: the others' handles go on being compared. */
void talk_undone(struct client *c, struct input *in)
{
        struct answer answer;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_find(c->who, &name, &answer);
        call_on(c, &name, &answer, "Undone", "");
        if (is_answered(c, &answer))
                for (unsigned i = n_held; i-- > 0;)
                        if (held[i].kind == HELD_DONE && held[i].node == n && held[i].uid == c->who->uid)
                                drop(i);
}

void talk_lifeline(struct client *c, struct input *in)
{
        struct answer answer;
        struct node *n;
        struct name name;

        pick_name(in, c->who, false, &name);
        n = answer_may(c->who, &name, RIGHT_END, &answer);
        if (n && n->done)
                answer.error = CTXD_ERROR_ALREADY_DONE;
        call_on(c, &name, &answer, "Lifeline", "");
        if (is_answered(c, &answer)) {
                keep(c, HELD_LIFELINE, n);
                n->lifelines++;
        }
}

void talk_page(struct client *c, struct input *in)
{
        bool open = input_byte(in) & 1;
        uint64_t id, deadline, number;
        struct answer answer;
        const char *path;
        uint32_t state;
        struct node *n;
        struct name name;
        int made, fds;

        pick_name(in, c->who, false, &name);
        n = answer_may(c->who, &name, open ? RIGHT_LOOK : RIGHT_MAP, &answer);
        if (open)
                call(c, "Open", "sb", name.text, 1);
        else
                call(c, "Page", "s", name.text);
        if (!is_answered(c, &answer) || !open)
                return;
        READ(c, "stbut", &path, &id, &made, &state, &deadline);
        REQUIRE(id == n->id && !made && deadline == node_deadline(n));
        REQUIRE(state == (!n->done ? 0U : n->overdue ? 2U : 1U));
        REQUIRE(sd_bus_message_enter_container(c->answer, 'a', "h") >= 0);
        fds = sd_bus_message_at_end(c->answer, false) == 0;
        REQUIRE(!fds || sd_bus_message_skip(c->answer, "h") >= 0);
        REQUIRE(sd_bus_message_exit_container(c->answer) >= 0);
        READ(c, "t", &number);
        REQUIRE(fds == (n->parent && may(c->who, n, RIGHT_MAP)) && (number != 0) == fds);
}

void talk_close(struct input *in)
{
        unsigned i = input_byte(in);
        struct held h;

        if (n_held == 0)
                return;
        i %= n_held;
        h = held[i];
        drop(i);
        if (h.kind == HELD_LIFELINE)
                lifeline_gone(h.node); /* law 29 */
}

/* Laws 5, 6 and 31. */
void held_check(void)
{
        for (unsigned i = 0; i < n_held; i++) {
                const struct held *h = &held[i];
                struct pollfd p = {.fd = h->fd, .events = POLLIN};

                if (h->kind == HELD_LIFELINE)
                        continue;
                REQUIRE((poll(&p, 1, 0) > 0) ==
                                (h->kind == HELD_DONE ? h->node->done : node_is_drained(h->node)));
        }
}

void held_close(void)
{
        while (n_held > 0)
                drop(0);
}
