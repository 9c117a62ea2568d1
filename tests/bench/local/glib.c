/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gio/gio.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* GLib's GCancellable. A child is one that a callback of its parent cancels. */

static double now(void)
{
        struct timespec ts;

        /* The thread's own time, so that a busy machine does not count. */
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

static volatile long sink;

static void cancel_child(GCancellable *parent, gpointer child)
{
        g_cancellable_cancel(child);
}

static void nothing(GCancellable *parent, gpointer unused) {}

static void wide(const char *name, size_t n)
{
        GCancellable *top = g_cancellable_new(), **all = malloc(n * sizeof(GCancellable *));
        gulong *ids = malloc(n * sizeof(gulong));
        double start;

        for (size_t i = 0; i < n; i++) {
                all[i] = g_cancellable_new();
                ids[i] = g_cancellable_connect(top, G_CALLBACK(cancel_child), all[i], NULL);
        }
        start = now();
        g_cancellable_cancel(top);
        printf("%s %.3f\n", name, (now() - start) / (double) n);
        /* Not disconnected one by one, which takes a search each; the parent goes with all of them. */
        g_object_unref(top);
        for (size_t i = 0; i < n; i++)
                g_object_unref(all[i]);
        free(ids);
        free(all);
}

int main(void)
{
        GCancellable *parent = g_cancellable_new();
        double start = now();
        long n = 50000000;

        for (long i = 0; i < n; i++)
                sink += g_cancellable_is_cancelled(parent);
        printf("check %.3f\n", (now() - start) / (double) n);

        n = 500000;
        start = now();
        for (long i = 0; i < n; i++) {
                GCancellable *child = g_cancellable_new();
                gulong id = g_cancellable_connect(parent, G_CALLBACK(cancel_child), child, NULL);

                g_cancellable_cancel(child);
                g_cancellable_disconnect(parent, id);
                g_object_unref(child);
        }
        printf("derive %.3f\n", (now() - start) / (double) n);
        start = now();
        for (long i = 0; i < n; i++)
                g_cancellable_disconnect(
                                parent, g_cancellable_connect(parent, G_CALLBACK(nothing), NULL, NULL));
        printf("callback %.3f\n", (now() - start) / (double) n);
        n = 100000;
        start = now();
        for (long i = 0; i < n; i++) {
                GCancellable *child = g_cancellable_new();

                sink += g_cancellable_get_fd(child);
                g_cancellable_release_fd(child);
                g_object_unref(child);
        }
        printf("done-fd %.3f\n", (now() - start) / (double) n);
        wide("cancel-1000", 1000);
        return 0;
}
