# SPDX-License-Identifier: LGPL-2.1-or-later
"""json-keys.py MANUAL PROBE: asks all verbs for JSON, and checks its keys.

They are of one style, except those of reports, which are the fields of the journal. None is unknown to the
manual. What there is not is null: no empty text, no largest number. There is a context "stuck", with a member
that does not leave.
"""

import json
import os
import re
import subprocess
import sys
import time

CTXCTL = os.environ["CTXCTL_PROGRAM"]
with open(sys.argv[1], encoding="utf-8") as file:
        manual = file.read()
manual = manual[manual.index("# JSON"):manual.index("# EXIT STATUS")].replace("\\", "")
described = set(re.findall(r"_((?:[a-z]|_(?=[a-z]))+)_", manual)) | set(re.findall(r"\*([A-Z][A-Z_]+)\*", manual))
wrong, seen = set(), {}


def ask(*arguments, statuses=(0,)):
        done = subprocess.run([CTXCTL, "--json=short", *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode not in statuses:
                sys.exit(f"{arguments}: {done.returncode} {done.stderr}")
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if not answers:
                sys.exit(f"{arguments} says nothing")
        for answer in answers:
                look(arguments[0], answer)
        return answers[0]


def look(verb, value):
        if isinstance(value, list):
                for item in value:
                        look(verb, item)
        if not isinstance(value, dict):
                return
        for key, item in value.items():
                seen.setdefault(verb, set()).add(key)
                reports = verb in ("leaks", "monitor", "selftest") and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", key)
                if not reports and not re.fullmatch(r"[a-z]+(_[a-z]+)*", key):
                        wrong.add(f"{verb} has the key {key}")
                if key not in described:
                        wrong.add(f"ctxctl(1) does not describe {key}, of {verb}")
                if item == "" or item == 2**64 - 1:
                        wrong.add(f"{verb}: {key} is {item!r}, and not null")
                if key.endswith("mode") and item is not None and not re.fullmatch("0[0-7]{3}", item):
                        wrong.add(f"{verb}: the mode is {item!r}")
                if key not in ("values", "statistics"):  # whose keys others have made
                        look(verb, item)


ask("create", "--parents", "--value=org.example.a=b", "--timeout=1h", "json/one")
ask("create", "json/two")
sleeper = subprocess.Popen(["sleep", "1000"])
subprocess.run([CTXCTL, "attach", "json/one", str(sleeper.pid)], check=True)
ask("status")
one, = ask("status", "json/one")
ask("status", "json", "json/two")
ask("list")
ask("tree")
ask("top", "--iterations=2", "--delay=10ms")
ask("members", "json")
ask("preview", "json")
ask("current")
ask("extend", "json/one", "2h")
if one["canceled_by"] is not None or one["values"] != {"org.example.a": "b"}:
        wrong.add(f"status is {one}")
with subprocess.Popen([CTXCTL, "--json=short", "monitor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                      text=True) as monitor:
        monitor.stderr.readline()
        ask("cancel", "--wait=10ms", "json", "enough", statuses=(3,))
        ask("cancel", "stuck", "enough")
        sleeper.kill()
        sleeper.wait()
        for line in monitor.stdout:
                event = json.loads(line)
                look("monitor", event)
                if event["signal"] == "LeakFound" or (sys.argv[2] == "off" and event["signal"] == "ContextDone"):
                        break
        monitor.terminate()
ask("wait", "json/one")
ask("cancel", "--wait", "json")
status, = ask("status", "json/one")
if not isinstance(status["canceled_by"], dict) or status["cause"] != "enough":
        wrong.add(f"the status of a done one is {status}")
ask("leaks", statuses=(0, 1, 2))
if sys.argv[2] != "off":
        ask("selftest")
ask("leaks", "--all", statuses=(0, 1, 2))
subprocess.run([CTXCTL, "create", "--owner", str(os.getpid()), "json-released"], check=True,
               stdout=subprocess.DEVNULL)
if sys.argv[2] != "off" and "CTXD_SYSCALL" not in seen["leaks"]:
        wrong.add("there are no reports")
# Nobody may describe what is not there, either.
unknown = set(re.findall(r"^(?:\[- |\|  )_([a-z_]+)_", manual, re.M)) - set().union(*seen.values())
wrong |= {f"nothing has {key}, which ctxctl(1) describes" for key in unknown}
print("\n".join(sorted(wrong)))
sys.exit(1 if wrong else 0)
