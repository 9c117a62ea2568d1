/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Writes the largest value to an eventfd, so that it stays readable whoever reads. 0: it is readable;
 * -EINTR: a signal has come while the write slept, which it does where somebody has filled the eventfd and
 * made it block. */
int eventfd_fill(int fd);
/* Wakes all who wait for one that was filled once more. Never sleeps. */
void eventfd_wake(int fd);
