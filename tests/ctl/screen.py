# SPDX-License-Identifier: LGPL-2.1-or-later
"""screen.py ROWS COLUMNS STEPS COMMAND...

Runs COMMAND on a terminal of that size, and does the STEPS, which are Python. They see what a person sees: the
terminal obeys the few sequences that ctxctl sends, and complains of any other. What does not come within a
minute does not come.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata

PATIENCE = 60
MODES = {"?1049": False, "?25": True, "?7": True}  # the alternate screen, the cursor, lines that go on
SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Terminal:
        """What is on it. A line of text that does not fit, and one that scrolls, are counted."""

        def __init__(self, rows, columns):
                self.rows, self.columns, self.row, self.column = rows, columns, 0, 0
                self.modes = dict(MODES)
                self.lines = [[" "] * columns for _ in range(rows)]
                self.ordinary = self.rest = ""  # what was written outside of the alternate screen
                self.frames = self.overflows = self.scrolls = 0
                self.settled = self.begun = True
                self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

        def text(self):
                return "\n".join("".join(line).rstrip() for line in self.lines)

        def alternate(self):
                return self.modes["?1049"]

        def resize(self, rows, columns):
                self.rows, self.columns = rows, columns
                self.row = min(self.row, rows - 1)
                self.lines = [["#"] * columns for _ in range(rows)]  # what is there now has to be drawn anew
                self.settled = self.begun = False  # drawings of the size before may be under way

        def feed(self, data):
                text = self.rest + self.decoder.decode(data)
                self.rest = ""
                while text:
                        found = SEQUENCE.match(text)
                        if text[0] != "\x1b":
                                self.put(text[0])
                                text = text[1:]
                        elif found:
                                self.obey(*found.groups())
                                text = text[found.end():]
                        elif len(text) < 16:
                                self.rest, text = text, ""
                        else:
                                raise ValueError(f"what is {text[:16]!r}?")

        def obey(self, arguments, command):
                if command in "hl" and arguments in self.modes:
                        self.modes[arguments] = command == "h"
                        if arguments == "?1049":
                                self.lines = [[" "] * self.columns for _ in range(self.rows)]
                elif (arguments, command) == ("", "H"):
                        if not self.settled:
                                self.settled = self.begun and not self.overflows and not self.scrolls
                                self.overflows = self.scrolls = 0
                                self.begun = True
                        self.row = self.column = 0
                        self.frames += 1
                elif (arguments, command) in (("", "K"), ("", "J")):
                        self.lines[self.row][self.column:] = [" "] * (self.columns - self.column)
                        for line in self.lines[self.row + 1:] if command == "J" else []:
                                line[:] = [" "] * self.columns
                elif command != "m":
                        raise ValueError(f"what is {arguments!r}{command}?")

        def put(self, character):
                if not self.alternate():
                        self.ordinary += character
                elif character == "\r":
                        self.column = 0
                elif character == "\n":
                        self.scrolls += self.row + 1 >= self.rows
                        self.row = min(self.row + 1, self.rows - 1)
                else:
                        wide = unicodedata.east_asian_width(character) in "WF"
                        if self.column + wide >= self.columns:
                                self.overflows += 1
                        else:
                                self.lines[self.row][self.column] = character
                                self.column += 1 + wide


terminal = Terminal(int(sys.argv[1]), int(sys.argv[2]))
command = sys.argv[4:]
master, slave = pty.openpty()
status = None


def set_size():
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", terminal.rows, terminal.columns, 0, 0))


def look(seconds):
        """Reads what has come, and whether the command has ended or stopped."""
        global status
        if select.select([master], [], [], seconds)[0]:
                terminal.feed(os.read(master, 65536))
        elif status is None or os.WIFSTOPPED(status):
                found, now = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
                if found:
                        status = None if os.WIFCONTINUED(now) else now


def until(condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
                if time.monotonic() > end:
                        sys.exit(f"{what} has not come; status {status}, on the terminal:\n{terminal.text()}\n"
                                 f"and before: {terminal.ordinary!r}")
                look(0.02)


# ---- what the steps call

def shows(pattern):
        until(lambda: re.search(pattern, terminal.text(), re.M), repr(pattern))


def hides(pattern):
        until(lambda: not re.search(pattern, terminal.text(), re.M), f"the end of {pattern!r}")


def draws_again(n=1):
        wanted = terminal.frames + n
        until(lambda: terminal.frames >= wanted, "another drawing")


def key(text):
        os.write(master, text.encode())


def resize(rows, columns):
        terminal.resize(rows, columns)
        set_size()
        os.kill(pid, signal.SIGWINCH)
        for _ in range(50):
                key("z")  # it means nothing
                draws_again()
                if terminal.settled:
                        return
        sys.exit(f"{terminal.overflows} lines are not cut, {terminal.scrolls} scroll")


def run(*arguments):
        subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def stops():
        until(lambda: status is not None and os.WIFSTOPPED(status), "a stop")
        is_given_back()


def goes_on():
        os.kill(pid, signal.SIGCONT)
        until(lambda: status is None, "the news that it goes on")
        until(terminal.alternate, "the alternate screen")


def is_given_back():
        until(lambda: terminal.modes == MODES, "the screen as it was")
        if termios.tcgetattr(slave) != before:
                sys.exit("the modes of the terminal are not as they were")


def ends(wanted):
        """It has exited with that, and the terminal is as it was."""
        until(lambda: status is not None and not os.WIFSTOPPED(status), "the end")
        is_given_back()
        if os.waitstatus_to_exitcode(status) != wanted:
                sys.exit(f"status {status}, not {wanted}; it said {terminal.ordinary!r}")


set_size()
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in range(3):
                os.dup2(slave, number)
        os.environ["TERM"] = "xterm"
        os.execv(command[0], command)
try:
        exec(sys.argv[3])
finally:
        if status is None or os.WIFSTOPPED(status):
                os.kill(pid, signal.SIGKILL)
if terminal.overflows or terminal.scrolls:
        sys.exit(f"{terminal.overflows} lines were not cut, {terminal.scrolls} scrolled")
