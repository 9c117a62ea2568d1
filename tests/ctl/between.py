# SPDX-License-Identifier: LGPL-2.1-or-later
"""between.py SOCKET DAEMON WORD: listens at SOCKET and passes on what clients and the daemon at the socket
DAEMON say, up to the message of a client that has WORD in it. From then on it is as a daemon that is stopped.
between.py SOCKET DAEMON WORD OTHER: passes on all, and has the daemon say OTHER for WORD, both as Python writes
bytes, and of the same length."""

import array
import ast
import os
import select
import socket
import sys
import time

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
word = sys.argv[3].encode()
lies = len(sys.argv) > 4
if lies:
        word, other = (ast.literal_eval(f"b'{text}'") for text in sys.argv[3:5])


def receive(s):
        fds = array.array("i")
        data, ancillary, _, _ = s.recvmsg(65536, socket.CMSG_SPACE(64))
        for _, _, cmsg in ancillary:
                fds.frombytes(cmsg)
        return data, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []


clients, other_end = set(), {}
while True:
        for s in select.select([listener, *other_end], [], [])[0]:
                if s is listener:
                        client, daemon = listener.accept()[0], socket.socket(socket.AF_UNIX)
                        daemon.connect(sys.argv[2])
                        clients.add(client)
                        other_end.update({client: daemon, daemon: client})
                        continue
                if s not in other_end:
                        continue
                try:
                        data, ancillary = receive(s)
                        if lies and s not in clients:
                                data = data.replace(word, other)
                        elif not lies and s in clients and word in data:
                                time.sleep(1000)
                        if data:
                                other_end[s].sendmsg([data], ancillary)
                except OSError:
                        data = b""
                if not data:
                        del other_end[other_end[s]]
                        other_end.pop(s).close()
                        s.close()
