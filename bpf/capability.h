/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Gives up, for good, every capability that is not in keep (bits 1 << CAP_*). */
int capability_drop(uint64_t keep);
