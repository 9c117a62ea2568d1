/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Text from files, from the kernel and from other programs may have any bytes. Text on D-Bus must be UTF-8,
 * or sd-bus refuses the whole message. */

/* How many bytes the character at p has, at most left. 0: there is no character. Code points that sd-bus
 * refuses (surrogates, U+FFFE and the other non-characters) do not count as characters. */
size_t utf8_character(const char *p, size_t left);

/* Replaces each byte that is not part of a character by '?'. Returns whether there was one. */
bool utf8_mend_bytes(char *text, size_t size);
bool utf8_mend(char *text); /* up to its NUL */
