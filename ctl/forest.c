/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "ctl/bus.h"
#include "ctl/forest.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/terminal.h"
#include "ctl/text.h"

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

static int find_processes(struct ctl *ctl, struct forest *forest, const char *prefix)
{
        bool missing_is_fine = ctl->missing_is_fine;
        int r = EXIT_DONE;
        size_t found;

        ctl->missing_is_fine = true;
        if (strcmp(prefix, "/") == 0)
                r = read_processes(ctl, forest->root, &found);
        else
                for (struct tree_node *child = forest->root->children; child && r == EXIT_DONE;
                                child = child->next)
                        r = read_processes(ctl, child, &found);
        ctl->missing_is_fine = missing_is_fine;
        return r;
}

int forest_read(struct ctl *ctl, const char *prefix, struct forest *ret)
{
        struct forest forest = {};
        int r;

        r = contexts_list(ctl, prefix, &forest.listing);
        if (r > 0)
                return r;
        forest.nodes = calloc(forest.listing.n + 1, sizeof *forest.nodes);
        if (forest.nodes)
                forest.root = forest.nodes + forest.listing.n;
        r = forest.nodes ? build_tree(&forest) : -ENOMEM;
        if (r < 0)
                r = bus_broken(r);
        if (r == 0)
                r = find_processes(ctl, &forest, prefix);
        if (r > 0)
                forest_deinit(&forest);
        else
                *ret = forest;
        return r;
}

void forest_deinit(struct forest *forest)
{
        for (size_t i = 0; forest->nodes && i <= forest->listing.n; i++)
                process_list_deinit(&forest->nodes[i].processes);
        free(forest->nodes);
        listing_deinit(&forest->listing);
        *forest = (struct forest){};
}

static void walk_below(
                const struct tree_node *node, const char *prefix, forest_visitor *visit, void *userdata)
{
        char deeper[CTXD_LABELS_MAX * 8];
        const struct process_list *list = &node->processes;

        for (size_t i = 0; i < list->n; i++)
                visit(userdata, node, list->items + i, prefix,
                                glyph(i + 1 < list->n || node->children ? GLYPH_BRANCH : GLYPH_RIGHT));
        for (const struct tree_node *child = node->children; child; child = child->next) {
                visit(userdata, child, NULL, prefix, glyph(child->next ? GLYPH_BRANCH : GLYPH_RIGHT));
                snprintf(deeper, sizeof deeper, "%s%s", prefix,
                                glyph(child->next ? GLYPH_VERTICAL : GLYPH_SPACE));
                walk_below(child, deeper, visit, userdata);
        }
}

void forest_walk(const struct forest *forest, bool with_root, forest_visitor *visit, void *userdata)
{
        if (with_root) {
                visit(userdata, forest->root, NULL, "", "");
                walk_below(forest->root, "", visit, userdata);
                return;
        }
        for (const struct tree_node *child = forest->root->children; child; child = child->next) {
                visit(userdata, child, NULL, "", "");
                walk_below(child, "", visit, userdata);
        }
}

static json_object *list_to_json(const struct tree_node *first, forest_decorator *decorate, void *userdata)
{
        json_object *array = json_object_new_array();

        for (const struct tree_node *node = first; node; node = node->next) {
                json_object *object = listed_to_json(node->listed);
                json_object *processes = process_list_to_json(&node->processes);

                if (decorate)
                        decorate(userdata, node, NULL, object);
                for (size_t i = 0; decorate && i < node->processes.n; i++)
                        decorate(userdata, node, node->processes.items + i,
                                        json_object_array_get_idx(processes, i));
                json_object_object_add(object, "processes", processes);
                json_object_object_add(object, "children", list_to_json(node->children, decorate, userdata));
                json_object_array_add(array, object);
        }
        return array;
}

json_object *forest_to_json(const struct forest *forest, forest_decorator *decorate, void *userdata)
{
        return list_to_json(forest->root->children, decorate, userdata);
}

void tree_node_print(const struct tree_node *node, FILE *out)
{
        _cleanup_free_ char *cause = NULL;
        const struct listed *c = node->listed;
        char text[FORMAT_MAX], id[32] = "", shown[4096];

        if (!c) {
                fprintf(out, "%s/%s", color_on(COLOR_HIGHLIGHT), color_off());
                return;
        }
        if (c->lost_path)
                snprintf(id, sizeof id, "#%" PRIu64, c->id);
        fprintf(out, "%s%s%s%s %s%s%s", color_on(COLOR_HIGHLIGHT), node->label, id, color_off(),
                        color_on(state_color(c->state)), c->state, color_off());
        if (strcmp(c->state, "active") == 0) {
                if (c->deadline_usec != UINT64_MAX)
                        fprintf(out, " (%s)", format_relative(text, c->deadline_usec));
        } else if (*c->cause) {
                cause = printable_new(c->cause, false);
                fprintf(out, " (%s)", cause ? text_to_fit(cause, 0, shown, sizeof shown) : "");
        }
}
