/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* Behind a shared-library call: a load, and a load and a clock read. */
int floor_load(_Atomic uint32_t *word);
int floor_load_and_clock(_Atomic uint32_t *word);
