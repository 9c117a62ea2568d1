/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/hostile/attack.h"

/* Attacks on what knows the members, with any backend. */
void take_slots(void);
void come_and_go(void);
void fork_crowds(void);
void stay(void);
#define CROWD_PROCESSES 105 /* of fork_crowds() itself, without those that come and go */
