/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Text from files, from the kernel and from other programs may hold any bytes; what goes over D-Bus must be
 * UTF-8, or sd-bus refuses the whole message. */

/* Bytes of the character at p, of at most left; 0: it is none. What sd-bus refuses (surrogates, U+FFFE and
 * the other non-characters) is none either. */
size_t utf8_character(const char *p, size_t left);

/* Turns each byte that is not part of a character into '?'. Returns whether there was one. */
bool utf8_mend_bytes(char *text, size_t size);
bool utf8_mend(char *text); /* up to its NUL */
