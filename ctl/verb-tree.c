/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/forest.h"
#include "ctl/json.h"
#include "ctl/live.h"
#include "ctl/pager.h"
#include "ctl/parse.h"
#include "ctl/terminal.h"
#include "ctl/text.h"

struct tree {
        struct ctl *ctl;
        const char *prefix;
        uint64_t watch_usec; /* 0: it is printed once */
        struct forest forest;
};

static void print_line(void *userdata, const struct tree_node *node, const struct process *process,
                const char *prefix, const char *branch)
{
        char command[COMMAND_MAX];
        FILE *out = userdata;

        fprintf(out, "%s%s", prefix, branch);
        if (process)
                fprintf(out, "%s%" PRIu32 " %s%s", color_on(COLOR_GREY), process->pid,
                                process_command_to_fit(process, text_width(prefix) + 2 + 11, command),
                                color_off());
        else
                tree_node_print(node, out);
        fputc('\n', out);
}

static int draw(void *userdata, FILE *out)
{
        struct tree *tree = userdata;

        if (tree->ctl->json != JSON_OFF)
                return json_print(tree->ctl, forest_to_json(&tree->forest, NULL, NULL));
        forest_walk(&tree->forest, strcmp(tree->prefix, "/") == 0, print_line, out);
        return EXIT_DONE;
}

static int read_forest(void *userdata)
{
        struct tree *tree = userdata;

        forest_deinit(&tree->forest);
        return forest_read(tree->ctl, tree->prefix, &tree->forest);
}

static int print_once(struct tree *tree)
{
        int r = read_forest(tree);

        if (r > 0)
                return r;
        if (tree->ctl->json == JSON_OFF)
                pager_open(tree->ctl);
        return tree->ctl->json == JSON_OFF ? text_draw(draw, tree) : draw(tree, stdout);
}

static int read_option(void *arguments, int option)
{
        struct tree *tree = arguments;

        return read_interval("--watch", optarg ? optarg : "1s", &tree->watch_usec);
}

int verb_tree(struct ctl *ctl, int argc, char *argv[])
{
        static const struct option own[] = {{"watch", optional_argument, NULL, 0x100}, {}};
        struct tree tree = {.ctl = ctl};
        struct live live = {.ctl = ctl,
                        .iterations = UINT64_MAX,
                        .read = read_forest,
                        .draw = draw,
                        .userdata = &tree};
        int r;

        if (!read_options(ctl, argc, argv, own, read_option, &tree, &r) ||
                        !count_arguments(ctl, argc, 0, 1, &r))
                return r;
        tree.prefix = optind < argc ? argv[optind] : "/";
        live.delay_usec = tree.watch_usec;
        r = tree.watch_usec > 0 ? live_run(&live) : print_once(&tree);
        forest_deinit(&tree.forest);
        return r;
}
