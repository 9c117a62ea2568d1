/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/processes.h"
#include "ctl/terminal.h"

/* Contexts as a tree. Below each context are the processes that are members of exactly that one. */

struct tree_node {
        const struct listed *listed; /* NULL: the root, above all that was listed */
        const char *label;
        struct tree_node *children, *next; /* sorted by label */
        struct process_list processes;
};

struct forest {
        struct tree_node *nodes; /* one for each listed context, the root last */
        struct listing listing;
};

static bool is_above(const char *path, const char *of)
{
        size_t n = strlen(path);

        return strncmp(path, of, n) == 0 && of[n] == '/';
}

/* The nearest ancestor that was listed, or the root. The caller may not see all ancestors. They come in the
 * order of the tree, so it is one of those above the one before: above is that, and its parents by index. */
static size_t parent_of(const struct listing *listing, const size_t *parents, size_t above, const char *path)
{
        while (above < listing->n && !is_above(listing->items[above].path, path))
                above = parents[above];
        return above;
}

/* Of those that have had one path the newest comes first. */
static int compare_labels(const void *a, const void *b)
{
        const struct tree_node *p = *(const struct tree_node *const *) a,
                               *q = *(const struct tree_node *const *) b;
        int r = strverscmp(p->label, q->label);

        return r != 0 ? r : (p->listed->id < q->listed->id) - (p->listed->id > q->listed->id);
}

/* Links the nodes into a tree. They are sorted by label, and added from the last to the first, each at the
 * front of its parent's children; so the children end up in order. */
static int build_tree(struct forest *forest)
{
        const struct listing *listing = &forest->listing;
        size_t n = listing->n;
        _cleanup_free_ struct tree_node **order = calloc(n + 1, sizeof *order);
        _cleanup_free_ size_t *parents = calloc(n + 1, sizeof *parents);

        if (!order || !parents)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const char *path = listing->items[i].path, *slash = strrchr(path, '/');

                parents[i] = parent_of(listing, parents, i > 0 ? i - 1 : n, path);
                forest->nodes[i].listed = listing->items + i;
                /* Where the parent is not shown, the whole path is. */
                forest->nodes[i].label = slash && parents[i] < n ? slash + 1 : path;
                order[i] = forest->nodes + i;
        }
        qsort(order, n, sizeof *order, compare_labels);
        for (size_t i = n; i-- > 0;) {
                struct tree_node *parent = forest->nodes + parents[order[i] - forest->nodes];

                order[i]->next = parent->children;
                parent->children = order[i];
        }
        return 0;
}

/* In a large tree most contexts have no processes, so this does not ask for each context: it asks how many
 * processes there are at a node and below it (*ret_found), and goes down only until it has found all of
 * them. A context that has gone meanwhile has none. */
static int read_processes(struct ctl *ctl, struct tree_node *node, size_t *ret_found)
{
        char reference[CTXD_PATH_ID_MAX + 1] = "/";
        struct process_list all = {};
        size_t found, below, n;
        int r;

        if (node->listed)
                listed_reference(node->listed, reference);
        r = process_list_read(ctl, reference, true, &all);
        if (r > 0)
                return r == EXIT_NO_SUCH_CONTEXT ? EXIT_DONE : r;
        *ret_found = n = all.n;
        if (node->listed && !node->children) {
                node->processes = all;
                return EXIT_DONE;
        }
        process_list_deinit(&all);
        if (n == 0)
                return EXIT_DONE;
        r = process_list_read(ctl, reference, false, &node->processes);
        if (r > 0)
                return r == EXIT_NO_SUCH_CONTEXT ? EXIT_DONE : r;
        found = node->processes.n;
        for (struct tree_node *child = node->children; child && found < n; child = child->next) {
                below = 0;
                r = read_processes(ctl, child, &below);
                if (r > 0)
                        return r;
                found += below;
        }
        return EXIT_DONE;
}

static void print_context(const struct tree_node *node, const char *prefix, const char *branch)
{
        _cleanup_free_ char *cause = NULL;
        const struct listed *c = node->listed;
        char text[FORMAT_MAX], id[32] = "";

        if (c->lost_path)
                snprintf(id, sizeof id, "#%" PRIu64, c->id);
        printf("%s%s%s%s%s%s %s%s%s", prefix, branch, color_on(COLOR_HIGHLIGHT), node->label, id, color_off(),
                        color_on(state_color(c->state)), c->state, color_off());
        if (strcmp(c->state, "active") == 0) {
                if (c->deadline_usec != UINT64_MAX)
                        printf(" (%s)", format_relative(text, c->deadline_usec));
        } else if (*c->cause) {
                cause = printable_new(c->cause, false);
                printf(" (%s)", cause ? cause : "");
        }
        putchar('\n');
}

static void print_process(const struct process *process, const char *prefix, const char *branch)
{
        char command[COMMAND_MAX];

        printf("%s%s%s%" PRIu32 " %s%s\n", prefix, branch, color_on(COLOR_GREY), process->pid,
                        process_command_to_fit(process, text_width(prefix) + 2 + 11, command), color_off());
}

static void print_below(const struct tree_node *node, const char *prefix)
{
        char deeper[CTXD_LABELS_MAX * 8];
        const struct process_list *list = &node->processes;

        for (size_t i = 0; i < list->n; i++)
                print_process(list->items + i, prefix,
                                glyph(i + 1 < list->n || node->children ? GLYPH_BRANCH : GLYPH_RIGHT));
        for (const struct tree_node *child = node->children; child; child = child->next) {
                print_context(child, prefix, glyph(child->next ? GLYPH_BRANCH : GLYPH_RIGHT));
                snprintf(deeper, sizeof deeper, "%s%s", prefix,
                                glyph(child->next ? GLYPH_VERTICAL : GLYPH_SPACE));
                print_below(child, deeper);
        }
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

static int print_tree(struct ctl *ctl, const struct tree_node *root, const char *prefix)
{
        json_object *array;

        if (ctl->json != JSON_OFF) {
                array = json_object_new_array();
                for (const struct tree_node *child = root->children; child; child = child->next)
                        json_object_array_add(array, to_json(child));
                return json_print(ctl, array);
        }
        pager_open(ctl);
        if (strcmp(prefix, "/") == 0) {
                printf("%s/%s\n", color_on(COLOR_HIGHLIGHT), color_off());
                print_below(root, "");
                return EXIT_DONE;
        }
        for (const struct tree_node *child = root->children; child; child = child->next) {
                print_context(child, "", "");
                print_below(child, "");
        }
        return EXIT_DONE;
}

static int find_processes(struct ctl *ctl, struct forest *forest, const char *prefix)
{
        struct tree_node *root = forest->nodes + forest->listing.n;
        size_t found;
        int r = EXIT_DONE;

        ctl->missing_is_fine = true;
        if (strcmp(prefix, "/") == 0)
                return read_processes(ctl, root, &found);
        for (struct tree_node *child = root->children; child && r == EXIT_DONE; child = child->next)
                r = read_processes(ctl, child, &found);
        return r;
}

int verb_tree(struct ctl *ctl, int argc, char *argv[])
{
        struct forest forest = {};
        const char *prefix;
        int r;

        if (!read_arguments(ctl, argc, argv, 0, 1, &r))
                return r;
        prefix = optind < argc ? argv[optind] : "/";
        r = contexts_list(ctl, prefix, &forest.listing);
        if (r > 0)
                return r;
        forest.nodes = calloc(forest.listing.n + 1, sizeof *forest.nodes);
        r = forest.nodes ? build_tree(&forest) : -ENOMEM;
        if (r < 0)
                r = bus_broken(r);
        if (r == 0)
                r = find_processes(ctl, &forest, prefix);
        if (r == 0)
                r = print_tree(ctl, forest.nodes + forest.listing.n, prefix);
        for (size_t i = 0; forest.nodes && i <= forest.listing.n; i++)
                process_list_deinit(&forest.nodes[i].processes);
        free(forest.nodes);
        listing_deinit(&forest.listing);
        return r;
}
