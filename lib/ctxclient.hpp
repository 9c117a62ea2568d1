/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* libctxclient for C++17 and newer: what the C headers offer, as types that give up what they hold. All of it
 * is inline, and in the namespace ctxclient. Each of the four parts can be included alone.
 *
 * Errors. What makes an object, or has a value to give, throws std::system_error with an errno of
 * std::generic_category(). What only does something, and may find the context done, returns a std::error_code
 * of that category, which is false where all went well; where it has a value to give too, the error_code is a
 * parameter.
 *
 * Exceptions. A function that the library calls should not throw. What happens if one does:
 *   class callback, and the destructor of a value (with_value): std::terminate() ends the program.
 *   ctx_after_func(3) itself: on the library's threads the same. In the program's own loop the exception leaves
 *   ctx_client_process(); the callback counts as returned, and the next call runs the others. A loop of
 *   sd-event is not made for exceptions.
 *   ctx_group_go(3) itself: std::terminate().
 *   group::go() and try_go(): what the function throws cancels the group, and wait() throws it again.
 *
 * The rules of <ctxclient/contexts.h> for units and threads hold here too. For a call that has no form of its
 * own here, take the C function and context::get(). */

#include "ctxclient/blocking.hpp"
#include "ctxclient/context.hpp"
#include "ctxclient/shared.hpp"
#include "ctxclient/stop-token.hpp"
