/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "proto/names.h"

/* ctxctl: a file for each verb, one struct with what the command line said of all of them. A verb prints what
 * went wrong itself, and returns the exit status. */

enum exit_status {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_NOT_DRAINED = 3,
        EXIT_NO_SUCH_CONTEXT = 4,
        EXIT_NOT_ALLOWED = 5,
        /* ctxctl run, beside the command's own */
        EXIT_RUN_CANCELED = 123,
        EXIT_RUN_DEADLINE = 124,
        EXIT_RUN_FAILED = 125,
        EXIT_RUN_CANNOT_EXEC = 126,
        EXIT_RUN_NOT_FOUND = 127,
};

enum json_mode {
        JSON_OFF,
        JSON_SHORT,
        JSON_PRETTY,
};

struct ctl {
        const struct verb *verb;
        const char *address; /* --address=, or NULL */
        bool user;
        bool legend;
        bool pager;
        bool ask_password;
        enum json_mode json;
        bool missing_is_fine; /* a context that has gone meanwhile is no news: EXIT_NO_SUCH_CONTEXT, silently
                               */

        sd_bus *bus;
        char *reached; /* the address in use where a child has to be told of it, or NULL: it finds the daemon
                          as we did */
        bool direct;   /* it is the system's daemon, without its bus */
        sd_bus *system_bus; /* for what is to be asked again; NULL: nothing yet */
        pid_t agent;        /* polkit's, on this terminal; 0: none */
};

struct verb {
        const char *name;
        const char *usage; /* what follows the name in a synopsis */
        const char *summary;
        const char *options; /* for --help, or NULL */
        int (*run)(struct ctl *ctl, int argc, char *argv[]);
        bool alias; /* not shown in the list of verbs */
};

/* Usage errors and failures: "ctxctl: ..." on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reads the options that all verbs have and hands out the verb's own ones: returns the next option's value,
 * or -1 at the end (then argv + optind is what is left), or OPTION_EXIT with the exit status in *ret_status.
 */
#define OPTION_EXIT (-2)
int next_option(struct ctl *ctl, int argc, char *argv[], const struct option *own, int *ret_status);
/* The same, but stops before the first argument that is no option. */
int next_leading_option(struct ctl *ctl, int argc, char *argv[], const struct option *own, int *ret_status);
/* For a verb without options of its own. Returns 0, or OPTION_EXIT; arguments must be from min to max (-1:
 * any). */
int read_arguments(struct ctl *ctl, int argc, char *argv[], int min, int max, int *ret_status);
/* Are there from min to max (-1: any) arguments left? If not it says so and returns false. */
bool count_arguments(const struct ctl *ctl, int argc, int min, int max);
void print_verb_help(const struct verb *verb);

int verb_attach(struct ctl *ctl, int argc, char *argv[]);
int verb_cancel(struct ctl *ctl, int argc, char *argv[]);
int verb_create(struct ctl *ctl, int argc, char *argv[]);
int verb_current(struct ctl *ctl, int argc, char *argv[]);
int verb_extend(struct ctl *ctl, int argc, char *argv[]);
int verb_leaks(struct ctl *ctl, int argc, char *argv[]);
int verb_list(struct ctl *ctl, int argc, char *argv[]);
int verb_members(struct ctl *ctl, int argc, char *argv[]);
int verb_monitor(struct ctl *ctl, int argc, char *argv[]);
int verb_preview(struct ctl *ctl, int argc, char *argv[]);
int verb_release(struct ctl *ctl, int argc, char *argv[]);
int verb_run(struct ctl *ctl, int argc, char *argv[]);
int verb_selftest(struct ctl *ctl, int argc, char *argv[]);
int verb_status(struct ctl *ctl, int argc, char *argv[]);
int verb_tree(struct ctl *ctl, int argc, char *argv[]);
int verb_values(struct ctl *ctl, int argc, char *argv[]);
int verb_wait(struct ctl *ctl, int argc, char *argv[]);
