# SPDX-License-Identifier: LGPL-2.1-or-later
"""uring.py FILE obeys|deaf

Has the kernel's threads of an io_uring block in three opens of a FIFO, writes its pid to FILE, and waits for
one of them to end, also on SIGTERM where it is deaf.
"""

import ctypes
import mmap
import os
import signal
import struct
import sys

SETUP, ENTER, SQES, OPENAT, ASYNC, AT_FDCWD, GETEVENTS = 425, 426, 0x10000000, 18, 16, -100, 1

if sys.argv[2] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
libc = ctypes.CDLL(None, use_errno=True)
parameters = ctypes.create_string_buffer(120)
ring = libc.syscall(SETUP, 8, parameters)
if ring < 0:
        sys.exit(77)
entries = struct.unpack_from("I", parameters, 0)[0]
_, tail, _, _, _, _, array = struct.unpack_from("7I", parameters, 40)
queue = mmap.mmap(ring, array + 4 * entries, mmap.MAP_SHARED, offset=0)
requests = mmap.mmap(ring, 64 * entries, mmap.MAP_SHARED, offset=SQES)
path = ctypes.create_string_buffer(f"{sys.argv[1]}.fifo".encode())
os.mkfifo(path.value)
for i in range(3):
        struct.pack_into("BBHiQQI", requests, 64 * i, OPENAT, ASYNC, 0, AT_FDCWD, 0, ctypes.addressof(path), 0)
        struct.pack_into("I", queue, array + 4 * i, i)
struct.pack_into("I", queue, tail, 3)
if libc.syscall(ENTER, ring, 3, 0, 0, None, 0) != 3:
        sys.exit(77)
with open(f"{sys.argv[1]}.new", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
os.rename(f"{sys.argv[1]}.new", sys.argv[1])
libc.syscall(ENTER, ring, 0, 1, GETEVENTS, None, 0)
