# SPDX-License-Identifier: LGPL-2.1-or-later
"""on-terminal.py PROGRAM...: prints what a terminal of 5 rows and $ITS_COLUMNS or 40 columns gets from it."""

import fcntl
import os
import pty
import struct
import sys
import termios

pid, fd = pty.fork()
if pid == 0:
        columns = int(os.environ.get("ITS_COLUMNS", "40"))
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 5, columns, 0, 0))
        os.environ["TERM"] = os.environ.get("ITS_TERM", "xterm")
        os.execv(sys.argv[1], sys.argv[1:])
said = b""
while True:
        try:
                part = os.read(fd, 4096)
        except OSError:
                part = b""
        if not part:
                break
        said += part
sys.stdout.write(said.decode(errors="replace").replace("\r\n", "\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
