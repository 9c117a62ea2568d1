/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>

/* Starts a thread of the library's own. It blocks every signal: the program's signals are for the program's
 * threads. 0, or a negative errno. */
int thread_start(void *(*fn)(void *), void *userdata, const char *name, pthread_t *ret);
