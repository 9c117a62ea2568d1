# SPDX-License-Identifier: LGPL-2.1-or-later
"""entered.py LIBRARY PATH[,PATH...] READY N: N threads enter each context, and stay. Then READY is written."""

import ctypes
import sys
import threading
import time

ctx = ctypes.CDLL(sys.argv[1])
ctx.ctx_open.restype = ctypes.c_void_p
ctx.ctx_open.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
ctx.ctx_enter.argtypes = [ctypes.c_void_p]
paths = sys.argv[2].split(",")
barrier = threading.Barrier(len(paths) * int(sys.argv[4]) + 1)


def work(opened):
        if ctx.ctx_enter(opened) < 0:
                sys.exit("cannot enter")
        barrier.wait()
        time.sleep(1000)


ctx.ctx_client_new.restype = ctypes.c_void_p
ctx.ctx_client_new.argtypes = [ctypes.c_char_p]
client = ctx.ctx_client_new(None)
for path in paths:
        opened = ctx.ctx_open(client, path.encode())
        if not opened:
                sys.exit("cannot open the context")
        for _ in range(int(sys.argv[4])):
                threading.Thread(target=work, args=(opened,), daemon=True).start()
barrier.wait()
open(sys.argv[3], "w").write("x")
time.sleep(1000)
