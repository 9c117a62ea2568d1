/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/* Copies the options of a program over the defaults in ret. Every options struct begins with a size_t: how
 * many bytes of the struct the program knows. size is that of the struct as this library knows it, and
 * size_ver0 that of its first version. -EINVAL: the program's size is less than size_ver0. -E2BIG: the
 * program sets something that this library does not know, or the size is more than any struct has. */
int options_take(const void *options, size_t size_ver0, void *ret, size_t size);
