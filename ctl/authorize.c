/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/authorize.h"
#include "ctl/bus.h"

/* polkit asks for a password through an agent. A desktop session has one. On a terminal without a session
 * nobody asks, so we start polkit's own agent for terminals, for as long as we run. */

#define AGENT "pkttyagent"

static _Noreturn void exec_agent(pid_t parent, int notify, bool fallback)
{
        char text[16];

        /* The agent ends when we end. On SIGTERM it restores the terminal first. */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
                _exit(0);
        fcntl(notify, F_SETFD, 0);
        snprintf(text, sizeof text, "%d", notify);
        execlp(AGENT, AGENT, "--notify-fd", text, fallback ? "--fallback" : NULL, (char *) NULL);
        _exit(127);
}

static void end_agent(struct ctl *ctl)
{
        if (ctl->agent > 0) {
                kill(ctl->agent, SIGTERM);
                kill(ctl->agent, SIGCONT);
                while (waitpid(ctl->agent, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        ctl->agent = 0;
}

/* When this returns, the agent has registered with polkit, or there is none. */
static void start_agent(struct ctl *ctl, bool fallback)
{
        pid_t parent = getpid();
        struct pollfd ready;
        int fds[2];

        fflush(stdout);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return;
        ctl->agent = fork();
        if (ctl->agent == 0)
                exec_agent(parent, fds[1], fallback);
        close(fds[1]);
        /* The agent closes its end once it has registered; if it fails, its exit closes it. */
        ready = (struct pollfd){.fd = fds[0]};
        while (ctl->agent > 0 && poll(&ready, 1, -1) < 0 && errno == EINTR)
                ;
        close(fds[0]);
}

static int call_on(sd_bus *bus, sd_bus_message *m, bool interactive, sd_bus_message **ret_reply,
                sd_bus_error *error)
{
        _cleanup_message_ sd_bus_message *copy = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus, &copy, sd_bus_message_get_destination(m),
                        sd_bus_message_get_path(m), sd_bus_message_get_interface(m),
                        sd_bus_message_get_member(m));
        if (r >= 0)
                r = sd_bus_message_rewind(m, true);
        if (r >= 0)
                r = sd_bus_message_copy(copy, m, true);
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(copy, interactive);
        if (r < 0)
                return r;
        sd_bus_error_free(error);
        return sd_bus_call(bus, copy, interactive ? UINT64_MAX : 0, error, ret_reply);
}

static bool wants_authentication(const sd_bus_error *error)
{
        return sd_bus_error_has_name(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
}

/* First our agent steps back for the agent of the user's session (--fallback). But where there is no
 * session, polkit does not find such an agent. So if the second try fails as well, we start one that does
 * not step back. */
int authorize_and_call(struct ctl *ctl, sd_bus_message *m, sd_bus_message **ret_reply, sd_bus_error *error)
{
        sd_bus *bus = ctl->bus;
        bool on_terminal;
        int r = -EACCES;

        if (ctl->direct) {
                if (!ctl->system_bus && sd_bus_open_system(&ctl->system_bus) < 0)
                        return r;
                bus = ctl->system_bus;
                r = call_on(bus, m, false, ret_reply, error);
                if (r >= 0 || !wants_authentication(error))
                        return r;
        }
        if (!ctl->ask_password || ctl->is_extra)
                return r;
        on_terminal = ctl->agent == 0 && geteuid() != 0 && isatty(STDIN_FILENO);
        if (on_terminal)
                start_agent(ctl, true);
        r = call_on(bus, m, true, ret_reply, error);
        if (r < 0 && on_terminal && wants_authentication(error)) {
                end_agent(ctl);
                start_agent(ctl, false);
                r = call_on(bus, m, true, ret_reply, error);
        }
        return r;
}

void authorize_done(struct ctl *ctl)
{
        ctl->system_bus = sd_bus_flush_close_unref(ctl->system_bus);
        end_agent(ctl);
}
