/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the C++ headers promise. A single program without a framework, since it is built by each compiler and
 * for each version of the language (cxx/check). */

#include <ctxclient.hpp>

#include <cstdio>
#include <cstdlib>

using namespace std::chrono_literals;
using ctxclient::context;

#define EXPECT(condition)                                                             \
        do {                                                                          \
                if (!(condition)) {                                                   \
                        std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
                        std::exit(1);                                                 \
                }                                                                     \
        } while (0)

template <typename F> inline int errno_of(F fn)
{
        try {
                fn();
        } catch (const std::system_error &e) {
                EXPECT(e.code().category() == std::generic_category());
                return e.code().value();
        }
        return 0;
}

/* What a context ends: blocking.cc. */
void use_blocking();
