/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "proto/names.h"

/* What all of ctxctl shares. Each verb has a file of its own (verb-NAME.c). A verb prints its errors
 * itself, and returns the exit status of the program. */

enum exit_status {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_NOT_DRAINED = 3,
        EXIT_NO_SUCH_CONTEXT = 4,
        EXIT_NOT_ALLOWED = 5,
        /* ctxctl run returns these, or the status of the command. */
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
        const char *address; /* of --address=, or NULL */
        bool user;
        bool legend;
        bool pager;
        bool ask_password;
        bool full; /* nothing is cut, and threads are shown */
        enum json_mode json;
        /* If true, no error is printed for a context that does not exist. The exit status is the same. */
        bool missing_is_fine;
        /* Answers are waited for until then, of CLOCK_MONOTONIC, and for a second at least. UINT64_MAX: for
         * answer_usec each, or if that is 0 as long as sd-bus does. */
        uint64_t answers_until_usec, answer_usec;
        bool unanswered; /* a call was not answered in time, so another one would not be either */
        /* What is asked for beside the purpose of the verb. If it fails no error is printed, and nobody is
         * asked for a password. The daemon may be older than the call, too. */
        bool is_extra;
        char **argv;       /* after the verb, as they were given */
        const char *about; /* what an error is about, where one call of several fails; or NULL */

        struct line *line; /* what was connected instead of a bus; or NULL (line.h) */
        sd_bus *bus;
        struct bus_ahead *ahead; /* calls that were sent ahead (bus.h) */
        /* The address of the daemon, for the environment of a child. NULL: the child finds the daemon
         * without it. */
        char *reached;
        bool direct;        /* connected to the system's daemon by its socket, without the system bus */
        sd_bus *system_bus; /* for the calls that polkit must allow; NULL: not connected yet */
        pid_t agent;        /* polkit's agent, which asks for the password on this terminal; 0: none runs */
};

struct verb {
        const char *name;
        const char *usage; /* what follows the name in the synopsis */
        const char *summary;
        const char *options; /* the text for --help, or NULL */
        int (*run)(struct ctl *ctl, int argc, char *argv[]);
        bool alias; /* not shown in the list of verbs */
};

/* Prints "ctxctl: ..." on standard error. */
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The help of one verb, or of the program if verb is NULL. */
void print_help(const struct verb *verb);

/* Takes one of the verb's own options; optarg is its value. 0, or a positive exit status after an error
 * message. */
typedef int option_reader(void *arguments, int option);

/* Reads the options that all verbs have, and passes each of the verb's own ones (own) to reader. A verb
 * without options of its own passes NULL. Afterwards argv + optind are the arguments. Returns false if the
 * program has to end, with *ret_status: after --help, and after an error message. */
bool read_options(struct ctl *ctl, int argc, char *argv[], const struct option *own, option_reader *reader,
                void *arguments, int *ret_status);
/* The same, but stops at the first argument that is not an option. */
bool read_leading_options(struct ctl *ctl, int argc, char *argv[], const struct option *own,
                option_reader *reader, void *arguments, int *ret_status);
/* Checks that the number of arguments is between min and max (-1: any number). */
bool count_arguments(const struct ctl *ctl, int argc, int min, int max, int *ret_status);
/* Both, for a verb without options of its own. */
bool read_arguments(struct ctl *ctl, int argc, char *argv[], int min, int max, int *ret_status);

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
int verb_top(struct ctl *ctl, int argc, char *argv[]);
int verb_tree(struct ctl *ctl, int argc, char *argv[]);
int verb_values(struct ctl *ctl, int argc, char *argv[]);
int verb_wait(struct ctl *ctl, int argc, char *argv[]);
