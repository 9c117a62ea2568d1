/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The journal's message ids. Each has an entry in systemd/ctxd.catalog; a test compares the two. Made with
 * systemd-id128 new, never counted up. */

#define CTXD_MESSAGE_LEAK_FOUND "d194a61e5f594eb78495d9c6da20ac49"
#define CTXD_MESSAGE_LEAK_RESOLVED "39e6fe01bba144f7b4607eb9dd109c14"
#define CTXD_MESSAGE_LEAKS_LEFT_OUT "f58796c7f9324ed2babc63d09773c88a"
#define CTXD_MESSAGE_PROBE_UNAVAILABLE "274ac16357bc4fb09677849fb6026e24"
#define CTXD_MESSAGE_QUOTA_REFUSED "61eac27d675a493c865b1c4e8b958d6c"
