/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/terminal.h"

/* Contexts as a picture, each with the processes that run in exactly that one. */

struct node {
        const struct listed *listed; /* NULL: the root of what was asked for, or an ancestor that may not be
                                        seen */
        const char *label;
        struct node *children, *next; /* sorted by label */
        struct running *running;
        size_t n_running;
};

struct forest {
        struct node *nodes; /* one for each listed context, the root last */
        struct listing listing;
};

static int compare_listed(const void *a, const void *b)
{
        return strcmp((*(const struct node *const *) a)->listed->path,
                        (*(const struct node *const *) b)->listed->path);
}

static struct node *find(struct node **sorted, size_t n, const char *path)
{
        struct listed listed = {.path = (char *) path};
        struct node key = {.listed = &listed}, *pointer = &key, **found;

        found = bsearch(&pointer, sorted, n, sizeof *sorted, compare_listed);
        return found ? *found : NULL;
}

/* The nearest listed ancestor, or the root. */
static struct node *parent_of(struct node **sorted, size_t n, struct node *node, struct node *root)
{
        char path[CTXD_PATH_MAX + 1];
        char *slash;

        snprintf(path, sizeof path, "%s", node->listed->path);
        while ((slash = strrchr(path, '/'))) {
                struct node *parent;

                *slash = '\0';
                parent = find(sorted, n, path);
                if (parent)
                        return parent;
        }
        return root;
}

static int compare_labels(const void *a, const void *b)
{
        return strverscmp((*(const struct node *const *) a)->label, (*(const struct node *const *) b)->label);
}

/* Links the list into a tree: sorted by label, so that pushing to the front from behind leaves them in order.
 */
static int build(struct forest *forest)
{
        size_t n = forest->listing.n;
        struct node *root = forest->nodes + n;
        _cleanup_free_ struct node **sorted = calloc(n + 1, sizeof *sorted),
                                   **order = calloc(n + 1, sizeof *order);

        if (!sorted || !order)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const char *slash = strrchr(forest->listing.items[i].path, '/');

                forest->nodes[i].listed = forest->listing.items + i;
                forest->nodes[i].label = slash ? slash + 1 : forest->listing.items[i].path;
                sorted[i] = order[i] = forest->nodes + i;
        }
        qsort(sorted, n, sizeof *sorted, compare_listed);
        qsort(order, n, sizeof *order, compare_labels);
        for (size_t i = n; i-- > 0;) {
                struct node *parent = parent_of(sorted, n, order[i], root);

                if (parent == root) /* more than the label is needed to know it */
                        order[i]->label = order[i]->listed->path;
                order[i]->next = parent->children;
                parent->children = order[i];
        }
        return 0;
}

/* Asks for processes only where there are any, and no longer once all have been found: most contexts of a
 * great tree run nothing. Contexts may go while we look. *ret_found: how many are in node or below it. */
static int read_processes(struct ctl *ctl, struct node *node, size_t *ret_found)
{
        char reference[CTXD_PATH_ID_MAX + 1] = "/";
        struct running *all = NULL;
        size_t n = 0, found, below;
        int r;

        if (node->listed)
                listed_reference(node->listed, reference);
        r = contexts_processes(ctl, reference, true, &all, &n);
        if (r > 0)
                return r == EXIT_NO_SUCH_CONTEXT ? EXIT_DONE : r;
        *ret_found = n;
        if (node->listed && !node->children) {
                node->running = all;
                node->n_running = n;
                return EXIT_DONE;
        }
        free(all);
        if (n == 0)
                return EXIT_DONE;
        r = contexts_processes(ctl, reference, false, &node->running, &node->n_running);
        if (r > 0)
                return r == EXIT_NO_SUCH_CONTEXT ? EXIT_DONE : r;
        found = node->n_running;
        for (struct node *child = node->children; child && found < n; child = child->next) {
                below = 0;
                r = read_processes(ctl, child, &below);
                if (r > 0)
                        return r;
                found += below;
        }
        return EXIT_DONE;
}

static void print_context(const struct node *node, const char *prefix, const char *branch)
{
        const struct listed *c = node->listed;
        char text[FORMAT_MAX];

        printf("%s%s%s%s%s %s%s%s", prefix, branch, color_on(COLOR_HIGHLIGHT), node->label, color_off(),
                        color_on(state_color(c->state)), c->state, color_off());
        if (strcmp(c->state, "active") == 0) {
                if (c->deadline_usec != UINT64_MAX)
                        printf(" (%s)", format_relative(text, c->deadline_usec));
        } else if (*c->cause) {
                text_defuse(c->cause, false);
                printf(" (%s)", c->cause);
        }
        putchar('\n');
}

static void print_process(const struct running *p, const char *prefix, const char *branch)
{
        char command[4096];
        size_t columns = terminal_columns(), used = text_width(prefix) + 2 + 11;

        format_command(command, sizeof command, (pid_t) p->pid, p->comm);
        if (columns != SIZE_MAX && columns > used && strlen(command) > columns - used)
                command[columns - used] = '\0';
        printf("%s%s%s%" PRIu32 " %s%s\n", prefix, branch, color_on(COLOR_GREY), p->pid, command,
                        color_off());
}

/* At most 64 labels deep. */
static void print_below(const struct node *node, const char *prefix)
{
        char deeper[CTXD_LABELS_MAX * 8];

        for (size_t i = 0; i < node->n_running; i++)
                print_process(node->running + i, prefix,
                                glyph(i + 1 < node->n_running || node->children ? GLYPH_BRANCH
                                                                                : GLYPH_RIGHT));
        for (const struct node *child = node->children; child; child = child->next) {
                print_context(child, prefix, glyph(child->next ? GLYPH_BRANCH : GLYPH_RIGHT));
                snprintf(deeper, sizeof deeper, "%s%s", prefix,
                                glyph(child->next ? GLYPH_VERTICAL : GLYPH_SPACE));
                print_below(child, deeper);
        }
}

static json_object *to_json(const struct node *node)
{
        json_object *object = listed_to_json(node->listed), *children = json_object_new_array();

        json_object_object_add(object, "processes", running_to_json(node->running, node->n_running));
        for (const struct node *child = node->children; child; child = child->next)
                json_object_array_add(children, to_json(child));
        json_object_object_add(object, "children", children);
        return object;
}

static int print(struct ctl *ctl, const struct node *root, const char *prefix)
{
        json_object *array;

        if (ctl->json != JSON_OFF) {
                array = json_object_new_array();
                for (const struct node *child = root->children; child; child = child->next)
                        json_object_array_add(array, to_json(child));
                return json_print(ctl, array);
        }
        pager_open(ctl);
        if (strcmp(prefix, "/") == 0) {
                printf("%s/%s\n", color_on(COLOR_HIGHLIGHT), color_off());
                print_below(root, "");
                return EXIT_DONE;
        }
        for (const struct node *child = root->children; child; child = child->next) {
                print_context(child, "", "");
                print_below(child, "");
        }
        return EXIT_DONE;
}

static int find_processes(struct ctl *ctl, struct forest *forest, const char *prefix)
{
        struct node *root = forest->nodes + forest->listing.n;
        size_t found;
        int r = EXIT_DONE;

        ctl->missing_is_fine = true;
        if (strcmp(prefix, "/") == 0)
                return read_processes(ctl, root, &found);
        for (struct node *child = root->children; child && r == EXIT_DONE; child = child->next)
                r = read_processes(ctl, child, &found);
        return r;
}

int verb_tree(struct ctl *ctl, int argc, char *argv[])
{
        struct forest forest = {};
        const char *prefix;
        int r;

        if (read_arguments(ctl, argc, argv, 0, 1, &r) != 0)
                return r;
        prefix = optind < argc ? argv[optind] : "/";
        r = contexts_list(ctl, prefix, &forest.listing);
        if (r > 0)
                return r;
        forest.nodes = calloc(forest.listing.n + 1, sizeof *forest.nodes);
        r = forest.nodes ? build(&forest) : -ENOMEM;
        if (r < 0)
                r = bus_broken(r);
        if (r == 0)
                r = find_processes(ctl, &forest, prefix);
        if (r == 0)
                r = print(ctl, forest.nodes + forest.listing.n, prefix);
        for (size_t i = 0; forest.nodes && i <= forest.listing.n; i++)
                free(forest.nodes[i].running);
        free(forest.nodes);
        listing_deinit(&forest.listing);
        return r;
}
