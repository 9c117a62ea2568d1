/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/capability.h>
#include <stdint.h>

#define CAPABILITY(name) (UINT64_C(1) << (CAP_##name))

/* Gives up all capabilities that are not in keep, for good. A program that root executes from then on gets at
 * most those in keep and in pass. If pass is 0, no program that is executed gains anything. */
int capability_drop(uint64_t keep, uint64_t pass);
