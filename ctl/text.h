/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdio.h>

/* Text that has to fit the terminal (terminal.h). */

/* How many columns the text takes on the terminal. Colours take none. */
size_t text_width(const char *text);
/* Writes a line, or of one that takes more columns the beginning and an ellipsis. Its colours are all kept,
 * so that the last one is switched off. */
void text_put(FILE *out, const char *line, size_t n, size_t columns);
/* The same into a buffer, with as many columns as a text may have on a line where `used` are taken. What the
 * buffer has no room for is cut as well. */
char *text_to_fit(const char *text, size_t used, char *buffer, size_t size);
/* Calls draw, and prints each line of what it has written as wide as a line may be. Returns what draw
 * returns, or a positive exit status after an error message. */
int text_draw(int (*draw)(void *userdata, FILE *out), void *userdata);
