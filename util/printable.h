/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text of a client (a cause, a value, a command, a file's name) on its way to a terminal or a log, where some
 * characters would be obeyed: an escape sequence, a line break that forges a line, a mark that turns the
 * order of the letters around. They are shown in the way of C: \n, \x1b, \u202e. Bytes that are no UTF-8 are
 * shown, too. A backslash stays one, so text that is made printable twice is the same. */

/* The size of the longest text that n bytes can become, with its NUL. */
#define PRINTABLE_SIZE(n) (4 * (n) + 1)

/* Writes the text to a buffer, and returns the buffer. A text that does not fit is cut, but not within what
 * stands for one character. newlines: line breaks stay. */
char *printable(const char *text, bool newlines, char *buffer, size_t size);
/* The same in memory that the caller frees. NULL: there is none. */
char *printable_new(const char *text, bool newlines);

/* From now on all beyond ASCII is shown in that way as well: for a terminal that does not understand UTF-8,
 * and may obey some of its bytes. */
void printable_in_ascii(void);

/* Whether the character at p, of n bytes, would be obeyed or is not to be seen. Its code point is stored. */
bool character_is_hidden(const char *p, size_t n, uint32_t *ret_code);
