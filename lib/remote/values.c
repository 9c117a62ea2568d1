/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/remote/context.h"

/* The values of a shared context, inherited ones included. They are asked for once, since they cannot
 * change. */

struct pair {
        char *key, *value;
};

struct values {
        size_t n;
        struct pair pairs[CTXD_VALUES_MAX * CTXD_LABELS_MAX];
};

static int compare(const void *a, const void *b)
{
        return strcmp(((const struct pair *) a)->key, ((const struct pair *) b)->key);
}

void values_free(struct values *values)
{
        if (!values)
                return;
        for (size_t i = 0; i < values->n; i++) {
                free(values->pairs[i].key);
                free(values->pairs[i].value);
        }
        free(values);
}

static int read_values(sd_bus_message *m, struct values *values)
{
        const char *key, *value;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{ss}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "{ss}", &key, &value)) > 0) {
                struct pair *pair = values->pairs + values->n;

                if (values->n == sizeof values->pairs / sizeof *values->pairs)
                        return -E2BIG;
                *pair = (struct pair){strdup(key), strdup(value)};
                values->n++;
                if (!pair->key || !pair->value)
                        return -ENOMEM;
        }
        return r;
}

static int ask(struct remote_context *remote, struct values **ret)
{
        struct values *values = calloc(1, sizeof *values), *small;
        sd_bus_message *reply = NULL;
        int r;

        if (!values)
                return -ENOMEM;
        r = client_call(remote->client, &reply, "Values", "s", remote->reference);
        if (r >= 0)
                r = read_values(reply, values);
        sd_bus_message_unref(reply);
        if (r < 0) {
                values_free(values);
                return r;
        }
        qsort(values->pairs, values->n, sizeof *values->pairs, compare);
        small = realloc(values, offsetof(struct values, pairs) + values->n * sizeof(struct pair));
        *ret = small ? small : values;
        return 0;
}

/* Another thread may have been faster. */
static struct values *keep(struct remote_context *remote, struct values *values)
{
        struct values *none = NULL;

        if (atomic_compare_exchange_strong_explicit(
                            &remote->values, &none, values, memory_order_acq_rel, memory_order_acquire))
                return values;
        values_free(values);
        return none;
}

const char *remote_context_value(struct remote_context *remote, const char *key)
{
        struct values *values = atomic_load_explicit(&remote->values, memory_order_acquire);
        struct pair wanted = {.key = (char *) key}, *found;
        int r = 0;

        if (!values) {
                r = remote_context_begin(remote);
                if (r >= 0) {
                        r = ask(remote, &values);
                        client_end(remote->client);
                }
                if (r < 0) {
                        errno = -r;
                        return NULL;
                }
                values = keep(remote, values);
        }
        found = bsearch(&wanted, values->pairs, values->n, sizeof *values->pairs, compare);
        errno = 0;
        return found ? found->value : NULL;
}
