# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests inside a booted system share: TAP, commands, calls through busctl, the journal."""

import json
import os
import subprocess
import sys
import time

BUS = ["org.ctxd1", "/org/ctxd1", "org.ctxd1.Manager"]
PATIENCE = 180  # seconds for what must happen; a machine that is busy is no failure

_cases = []
_failed = 0


class Failure(Exception):
        pass


def case(name):
        """Registers a function as a case; they run in the order in which they are written."""
        def register(function):
                _cases.append((name, function))
                return function
        return register


def main():
        print(f"1..{len(_cases)}", flush=True)
        global _failed
        for number, (name, function) in enumerate(_cases, 1):
                try:
                        said = function()
                        print(f"ok {number} - {name}" + (f" # {said}" if said else ""), flush=True)
                except Exception as error:  # the other cases run all the same
                        _failed += 1
                        print(f"not ok {number} - {name}")
                        kind = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
                        for line in (kind + str(error)).splitlines():
                                print(f"# {line}")
                        sys.stdout.flush()
        if _failed and "E2E_BUS" in os.environ:
                log = run("journalctl", "--no-pager", "--unit=ctxd", "--unit=ctxd-probe", "--lines=100",
                          ok=False).stdout
                print("# the journal of ctxd:")
                for line in log.splitlines():
                        print(f"# {line}")
        sys.exit(1 if _failed else 0)


def check(condition, why):
        if not condition:
                raise Failure(why)


def equal(got, wanted, what):
        check(got == wanted, f"{what}: {got!r}, not {wanted!r}")


def run(*command, user=None, ok=True, text=None):
        """Runs a command and returns its standard output, stripped; with ok=False the whole result."""
        if user:
                command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command)
        result = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, timeout=PATIENCE, stdin=None if text else subprocess.DEVNULL)
        if not ok:
                return result
        check(result.returncode == 0,
              f"{' '.join(command)}: {result.returncode}: {result.stdout}{result.stderr}")
        return result.stdout.strip()


def call(method, *arguments, **how):
        return run("busctl", "call", *BUS, method, *arguments, **how)


def refused(method, *arguments, **how):
        """A call that must fail: returns what busctl says."""
        result = call(method, *arguments, ok=False, **how)
        check(result.returncode != 0, f"{method} {arguments} was not refused: {result.stdout}")
        return result.stderr.strip()


def prop(name):
        """A property of the manager, without the signature and the quotes."""
        value = run("busctl", "get-property", *BUS, name)
        return json.loads(value.split(" ", 1)[1])


def show(unit, name):
        return run("systemctl", "show", "--value", f"--property={name}", unit)


def until(condition, what):
        """Waits until condition() is true and returns what it gave."""
        end = time.monotonic() + PATIENCE
        while True:
                value = condition()
                if value:
                        return value
                check(time.monotonic() < end, f"{what}: not after {PATIENCE} s")
                time.sleep(0.05)


def journal(*match):
        """The entries that match, as dictionaries."""
        run("journalctl", "--sync")
        text = run("journalctl", "--quiet", "--no-pager", "--output=json", "--all", *match)
        return [json.loads(line) for line in text.splitlines()]


def write(path, text):
        with open(path, "w", encoding="utf-8") as file:
                file.write(text)
