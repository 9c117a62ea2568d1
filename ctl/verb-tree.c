/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/forest.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/terminal.h"

static void print_line(void *userdata, const struct tree_node *node, const struct process *process,
                const char *prefix, const char *branch)
{
        char command[COMMAND_MAX];

        printf("%s%s", prefix, branch);
        if (process)
                printf("%s%" PRIu32 " %s%s", color_on(COLOR_GREY), process->pid,
                                process_command_to_fit(process, text_width(prefix) + 2 + 11, command),
                                color_off());
        else
                tree_node_print(node);
        putchar('\n');
}

static json_object *to_json(const struct tree_node *node)
{
        json_object *object = listed_to_json(node->listed), *children = json_object_new_array();

        json_object_object_add(object, "processes", process_list_to_json(&node->processes));
        for (const struct tree_node *child = node->children; child; child = child->next)
                json_object_array_add(children, to_json(child));
        json_object_object_add(object, "children", children);
        return object;
}

static int print_tree(struct ctl *ctl, const struct forest *forest, const char *prefix)
{
        json_object *array;

        if (ctl->json == JSON_OFF) {
                pager_open(ctl);
                forest_walk(forest, strcmp(prefix, "/") == 0, print_line, NULL);
                return EXIT_DONE;
        }
        array = json_object_new_array();
        for (const struct tree_node *child = forest->root->children; child; child = child->next)
                json_object_array_add(array, to_json(child));
        return json_print(ctl, array);
}

int verb_tree(struct ctl *ctl, int argc, char *argv[])
{
        struct forest forest = {};
        const char *prefix;
        int r;

        if (!read_arguments(ctl, argc, argv, 0, 1, &r))
                return r;
        prefix = optind < argc ? argv[optind] : "/";
        r = forest_read(ctl, prefix, &forest);
        if (r == 0)
                r = print_tree(ctl, &forest, prefix);
        forest_deinit(&forest);
        return r;
}
