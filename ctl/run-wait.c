/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/proc.h"
#include "ctl/bus.h"
#include "ctl/handle.h"
#include "ctl/left.h"
#include "ctl/run-command.h"
#include "ctl/terminal.h"

/* Waits until the command has ended. If the context is ours we then release it, so that what the command has
 * left behind ends as well, and wait until it is drained. In a context that was there before the others go
 * on, and we wait for the command alone, unless it was us who have cancelled it.
 *
 * On cancel ctxd signals the members, and kills them later. It may not signal a process that has changed
 * its user. With a scope we kill such a process as well, through the scope's control group, which the
 * kernel allows us.
 *
 * ^C comes to the command as well, which is in the foreground like us. What it means is the command's to
 * decide: python3 and less go on. */

/* ctxd answers within this time, or never. Who has sent us SIGTERM may send SIGKILL in five seconds. */
#define ANSWER_USEC UINT64_C(3000000)
/* So long after the deadline ctxd has ended the context, or never will. */
#define LATE_USEC UINT64_C(1000000)
#define KILL_AFTER_USEC UINT64_C(10000000) /* without --kill-after=, where ctxd's own is not known */
#define KILL_AGAIN_USEC UINT64_C(1000000)
#define SHOW_FIRST_USEC UINT64_C(1000000)
#define SHOW_AGAIN_USEC UINT64_C(500000)
#define TELL_USEC UINT64_C(10000000) /* where no terminal is: then we say so once */
#define LOST_USEC UINT64_C(300000) /* a ctxd that is stopped has the command end as well, at the same time */

struct waiting {
        struct ctl *ctl;
        struct run *run;
        bool ended;         /* the command */
        int result;         /* as waitpid() gave it */
        int end;            /* 123 or 124; negative: the context was active when the command ended */
        int key;            /* SIGINT or SIGQUIT: the terminal has sent it; 0: it has not */
        bool canceled;      /* by us */
        unsigned asked;     /* signals that came after the command had ended */
        int drained;        /* handle, while we wait for it; else -1 */
        bool populated;     /* we wait for processes in the scope */
        bool family;        /* we wait for our descendants, since ctxd does not end them */
        uint64_t kill_usec; /* when we kill those that are left of both */
        uint64_t late_usec; /* when we look whether ctxd has missed the deadline */
        struct left left;
        uint64_t show_usec; /* when we say for whom we wait, or that ctxd has gone */
};

static uint64_t from_now(uint64_t usec)
{
        uint64_t now_usec = now_boottime_usec();

        return usec < UINT64_MAX - now_usec ? now_usec + usec : UINT64_MAX;
}

static void kill_in_time(struct waiting *w, uint64_t kill_after_usec)
{
        if (w->kill_usec == UINT64_MAX)
                w->kill_usec = from_now(kill_after_usec);
}

static void stop_waiting(struct waiting *w)
{
        left_erase(&w->left);
        fflush(stderr);
        closep(&w->drained);
        w->drained = -1;
        w->show_usec = UINT64_MAX;
}

/* Does what ctxd would do if it answered. */
static void end_alone(struct waiting *w)
{
        const struct attach_arguments *attach = &w->run->attach;

        if (!w->ended && w->ctl->unanswered)
                print_error("ctxctl itself ends the command");
        else if (!w->ended && w->show_usec != UINT64_MAX)
                print_error("lost the connection to ctxd: ctxctl itself ends the command");
        stop_waiting(w);
        w->run->alone = true;
        w->family = run_signal_family(w->ctl, w->run, attach->signal) > 0;
        kill_in_time(w, attach->has_kill_after ? attach->kill_after_usec : KILL_AFTER_USEC);
}

static void cancel(struct waiting *w, const char *reason)
{
        bool again = w->canceled;

        w->canceled = true;
        if (w->run->alone ? !again : bus_call(w->ctl, NULL, "Cancel", "ss", w->run->reference, reason) > 0)
                end_alone(w);
}

static void cancel_by_signal(struct waiting *w, int signal)
{
        const char *name = sigabbrev_np(signal);
        char reason[64];

        snprintf(reason, sizeof reason, "ctxctl run got SIG%s", name ? name : "?");
        cancel(w, reason);
}

static void kill_scope_in_time(struct waiting *w)
{
        kill_in_time(w, w->run->attach.kill_after_usec);
}

static void kill_rest(struct waiting *w)
{
        int r = w->populated ? scope_kill(&w->run->scope) : 0;

        if (w->family)
                w->family = run_signal_family(w->ctl, w->run, SIGKILL) > 0;
        if (r < 0 && r != -ENOENT && r != -ENODEV)
                print_error("cannot kill the processes that are left in %s: %s", w->run->scope.unit,
                                strerror(-r));
        w->kill_usec = from_now(KILL_AGAIN_USEC);
}

/* To be asked for before the context is released: it has the context kept. */
static void wait_for_drained(struct waiting *w)
{
        if (handle_get(w->ctl, "Drained", w->run->reference, &w->drained) != 0) {
                run_release(w->ctl, w->run);
                end_alone(w);
                return;
        }
        w->left = (struct left){
                        .ctl = w->ctl,
                        .path = w->run->reference,
                        .to = stderr,
                        .since_usec = now_boottime_usec(),
        };
        terminal_use(STDERR_FILENO);
        w->left.terminal = !w->ctl->full && saved_terminal_is_ours(&w->run->terminal) &&
                           isatty(STDERR_FILENO) && terminal_is_capable();
        w->left.silent = !w->left.terminal;
        w->show_usec = from_now(w->left.terminal ? SHOW_FIRST_USEC : TELL_USEC);
}

static void show_who_is_left(struct waiting *w)
{
        int r;
        /* Else another one has the terminal by now. */
        bool draws = w->left.terminal && saved_terminal_is_ours(&w->run->terminal);

        w->show_usec = w->left.terminal ? from_now(SHOW_AGAIN_USEC) : UINT64_MAX;
        w->left.silent = !draws;
        w->ctl->missing_is_fine = true;
        r = left_update(&w->left);
        w->ctl->missing_is_fine = false;
        if (r > 0)
                end_alone(w);
        else if (!w->left.terminal)
                left_tell(&w->left);
}

/* Whoever asks twice does not want to wait any longer. */
static void give_up(struct waiting *w)
{
        w->left.silent = true;
        if (w->drained >= 0 && left_update(&w->left) == 0) {
                left_erase(&w->left);
                left_tell(&w->left);
        }
        stop_waiting(w);
        w->populated = w->family = false;
        w->end = EXIT_RUN_CANCELED;
}

static void take_signal(struct waiting *w, const struct signalfd_siginfo *info)
{
        int signal = (int) info->ssi_signo;

        if (signal == SIGTSTP && (w->ended || info->ssi_code != SI_KERNEL))
                run_stop();
        if (signal == SIGCHLD || signal == SIGCONT || signal == SIGTSTP)
                return;
        if (w->ended && ++w->asked == 2)
                give_up(w);
        else if (w->ended && w->left.terminal)
                w->show_usec = now_boottime_usec();
        else if (!w->ended && (signal == SIGINT || signal == SIGQUIT) && info->ssi_code == SI_KERNEL)
                w->key = signal;
        else if (!w->ended)
                cancel_by_signal(w, signal);
}

static void take_signals(struct waiting *w)
{
        struct signalfd_siginfo info;

        while (read(w->run->signals, &info, sizeof info) == sizeof info)
                take_signal(w, &info);
}

static void command_ended(struct waiting *w, int result)
{
        struct run *run = w->run;
        struct context_end why;

        w->ended = true;
        w->result = result;
        run->pid = 0; /* it may be another process's from now on */
        if (run->alone && w->show_usec != UINT64_MAX)
                print_error("lost the connection to ctxd, and the command has ended");
        w->show_usec = UINT64_MAX;
        /* What has to be asked and said now, in this order, in most cases. */
        if (run->made && !run->no_wait && !run->alone && !w->key) {
                bus_send_ahead(w->ctl, "Err", run->reference);
                bus_send_ahead(w->ctl, "Drained", run->reference);
                bus_send_ahead(w->ctl, "Release", run->reference);
        }
        if (!run->alone)
                w->end = run_end_status(w->ctl, run, &why);
        if (run->alone && w->canceled)
                w->end = EXIT_RUN_CANCELED;
        if (w->end > 0 && !run->made && !w->canceled)
                run_tell_end(run, &why);
        if (w->end < 0 && w->key && WIFSIGNALED(result) && WTERMSIG(result) == w->key)
                cancel_by_signal(w, w->key);
        else
                w->key = 0;
        if (WIFSIGNALED(result) || w->end > 0)
                saved_terminal_restore(&run->terminal);
        /* In a context that is not ours the processes go on. */
        if (run->no_wait || (w->end < 0 && !run->made && !w->canceled))
                w->populated = false;
        w->populated = w->populated && scope_populated(&run->scope);
        if (run->alone && run->made && !w->family)
                end_alone(w);
        if (run->no_wait)
                w->family = false;
        else if (!run->alone && (run->made || w->canceled))
                wait_for_drained(w);
        run_release(w->ctl, run);
        if (w->populated)
                kill_scope_in_time(w);
}

/* Also who has come to us by the death of its parent. */
static void reap(struct waiting *w)
{
        int result;
        pid_t pid;

        while ((pid = waitpid(-1, &result, WNOHANG | WUNTRACED)) > 0 || (pid < 0 && errno == EINTR)) {
                if (pid > 0 && WIFSTOPPED(result)) {
                        if (pid == w->run->pid)
                                run_stop_with(pid, WSTOPSIG(result));
                        continue;
                }
                if (pid == w->ctl->agent)
                        w->ctl->agent = 0;
                if (pid != w->run->pid)
                        continue;
                take_signals(w); /* ^C has come before the end that it has brought */
                command_ended(w, result);
        }
        if (w->ended && w->family)
                w->family = run_signal_family(w->ctl, w->run, 0) > 0;
}

static void lost_connection(struct waiting *w)
{
        w->run->alone = true;
        if (!w->ended) {
                w->show_usec = from_now(LOST_USEC);
        } else if (w->drained >= 0) {
                end_alone(w);
                print_error("lost the connection to ctxd: %s of %s",
                                w->family ? "ctxctl itself waits for who is left"
                                          : "nobody says any more who is left",
                                w->left.path);
        }
}

static void tell_lost(struct waiting *w)
{
        w->show_usec = UINT64_MAX;
        print_error("lost the connection to ctxd: the command goes on without control: nothing but a signal "
                    "to ctxctl%s ends it, also when ctxd is back",
                        w->late_usec != UINT64_MAX ? " or its deadline" : "");
}

/* ctxd may have moved it since, or may be gone. */
static void look_for_deadline(struct waiting *w)
{
        struct context_end end;

        w->late_usec = UINT64_MAX;
        bus_answers_within(w->ctl, 0); /* it has had its time */
        if (!w->run->alone && (run_end_status(w->ctl, w->run, &end) > 0 || !w->run->alone)) {
                bus_wait_for_answers(w->ctl, ANSWER_USEC);
                return;
        }
        w->end = EXIT_RUN_DEADLINE;
        end_alone(w);
}

static void wait_for_events(struct waiting *w)
{
        struct run *run = w->run;
        uint64_t kill_usec = w->populated || w->family ? w->kill_usec : UINT64_MAX;
        uint64_t late_usec = w->ended ? UINT64_MAX : w->late_usec;
        uint64_t next_usec = kill_usec < w->show_usec ? kill_usec : w->show_usec;
        struct pollfd fds[] = {
                        {.fd = run->signals, .events = POLLIN},
                        {.fd = run->done, .events = POLLIN},
                        {.fd = w->populated ? run->scope.events : -1, .events = POLLPRI},
                        {.fd = run->owner, .events = POLLIN},
                        {.fd = w->drained, .events = POLLIN},
                        {.fd = run->alone ? -1 : bus_fd(w->ctl), .events = POLLRDHUP},
        };

        if (poll_until(fds, ELEMENTSOF(fds), late_usec < next_usec ? late_usec : next_usec) < 0)
                return; /* EINTR */
        if (fds[3].revents) {
                closep(&run->owner);
                run->owner = -1;
                if (!w->ended)
                        cancel(w, "its owner has exited");
        }
        if (fds[1].revents) {
                kill_scope_in_time(w);
                closep(&run->done);
                run->done = -1;
        }
        if (fds[2].revents)
                w->populated = scope_populated(&run->scope);
        if (fds[4].revents)
                stop_waiting(w);
        if (fds[0].revents) {
                take_signals(w);
                reap(w);
        }
        if (fds[5].revents && !run->alone) /* a signal may have come first */
                lost_connection(w);
        if ((w->populated || w->family) && w->kill_usec <= now_boottime_usec())
                kill_rest(w);
        if (!w->ended && w->late_usec <= now_boottime_usec())
                look_for_deadline(w);
        if (w->show_usec <= now_boottime_usec()) {
                if (w->ended)
                        show_who_is_left(w);
                else
                        tell_lost(w);
        }
}

static int any_child(void *userdata, pid_t child)
{
        return 1;
}

/* Who goes on has come to us by the death of its parent. Without BPF ctxd may not have seen it, and would not
 * find it once it is another's child. So ctxd looks at all of them while they are ours. Mostly there are
 * none, which one call tells. */
static void hand_over(struct waiting *w)
{
        if (w->run->alone || waitid(P_ALL, 0, &(siginfo_t){}, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 ||
                        proc_each_child(getpid(), any_child, NULL) <= 0)
                return;
        w->ctl->missing_is_fine = true;
        bus_call(w->ctl, NULL, "Processes", "sbu", w->run->reference, 0, 1U);
        w->ctl->missing_is_fine = false;
}

static int exit_status(const struct waiting *w)
{
        int own = WIFEXITED(w->result) ? WEXITSTATUS(w->result) : 128 + WTERMSIG(w->result);

        return w->end > 0 && !w->run->preserve_status ? w->end : own;
}

int run_wait(struct ctl *ctl, struct run *run)
{
        bool was_made = run->made; /* until it is released */
        struct waiting w = {
                        .ctl = ctl,
                        .run = run,
                        .end = -1,
                        .drained = -1,
                        .populated = run->scope.directory,
                        .kill_usec = UINT64_MAX,
                        .show_usec = UINT64_MAX,
                        .late_usec = UINT64_MAX,
        };

        bus_wait_for_answers(ctl, ANSWER_USEC);
        if (run->made && run->create.has_timeout && run->create.timeout_usec < UINT64_MAX - LATE_USEC)
                w.late_usec = from_now(run->create.timeout_usec + LATE_USEC);
        reap(&w); /* it may have been killed before its end was signalled to us */
        while (!w.ended || w.populated || w.family || w.drained >= 0)
                wait_for_events(&w);
        if (WIFSIGNALED(w.result) || w.end > 0)
                saved_terminal_restore(&run->terminal);
        left_deinit(&w.left);
        hand_over(&w);
        if (!run->no_wait && (was_made || w.canceled))
                run_tell_unseen(ctl, run);
        return exit_status(&w);
}
