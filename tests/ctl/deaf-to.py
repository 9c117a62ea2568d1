# SPDX-License-Identifier: LGPL-2.1-or-later
"""deaf-to.py SOCKET DAEMON WORD: listens at SOCKET and passes on what one client and the daemon at the socket
DAEMON say, up to the message of the client that has WORD in it. From then on it is as a daemon that is stopped."""

import array
import os
import select
import socket
import sys
import time

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
client, _ = listener.accept()
daemon = socket.socket(socket.AF_UNIX)
daemon.connect(sys.argv[2])
word = sys.argv[3].encode()


def receive(s):
        fds = array.array("i")
        data, ancillary, _, _ = s.recvmsg(65536, socket.CMSG_SPACE(64))
        for _, _, cmsg in ancillary:
                fds.frombytes(cmsg)
        return data, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []


while True:
        for s in select.select([client, daemon], [], [])[0]:
                data, ancillary = receive(s)
                if not data:
                        sys.exit()
                if s is client and word in data:
                        time.sleep(1000)
                (daemon if s is client else client).sendmsg([data], ancillary)
