/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Gives up all capabilities that are not in keep (bits 1 << CAP_*), for good. */
int capability_drop(uint64_t keep);
