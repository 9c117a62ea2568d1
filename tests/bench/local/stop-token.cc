// SPDX-License-Identifier: LGPL-2.1-or-later
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <stop_token>
#include <vector>

// C++'s std::stop_token. A child is a source that a callback of its parent stops.

// The thread's own time, so that a busy machine does not count.
static double now()
{
        timespec ts;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return double(ts.tv_sec) * 1e9 + double(ts.tv_nsec);
}

static volatile long sink;

struct child {
        std::stop_source source;
        struct stop {
                child *self;
                void operator()() const { self->source.request_stop(); }
        };
        std::stop_callback<stop> callback;

        explicit child(const std::stop_token &parent) : callback(parent, stop{this}) {}
};

static void wide(const char *name, size_t n)
{
        std::stop_source top;
        std::vector<std::unique_ptr<child>> all;
        double start;

        for (size_t i = 0; i < n; i++)
                all.push_back(std::make_unique<child>(top.get_token()));
        start = now();
        top.request_stop();
        std::printf("%s %.3f\n", name, (now() - start) / double(n));
}

int main()
{
        std::stop_source parent;
        std::stop_token token = parent.get_token();
        long n = 50000000;
        double start = now();

        for (long i = 0; i < n; i++)
                sink = sink + token.stop_requested();
        std::printf("check %.3f\n", (now() - start) / double(n));
        n = 5000000;
        start = now();
        for (long i = 0; i < n; i++) {
                child c(token);

                c.source.request_stop();
        }
        std::printf("derive %.3f\n", (now() - start) / double(n));
        start = now();
        for (long i = 0; i < n; i++) {
                std::stop_callback callback(token, [] {});

                sink = sink + 1;
        }
        std::printf("callback %.3f\n", (now() - start) / double(n));
        wide("cancel-1000", 1000);
        wide("cancel-100000", 100000);
        wide("cancel-1000000", 1000000);
        return 0;
}
