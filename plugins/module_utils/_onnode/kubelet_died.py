# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Why a kubelet died, and whether it does so again and again.

Like `report`, this very file also lies on each node, so it needs nothing but Python's standard
library.

Sources: kubelet.go of Kubernetes 1.37 (what ends a kubelet); klog's format of lines and of values.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence

UNIT = "kubelet.service"
#: A loop: so often within so many seconds. It waits 2 s before each start, see the unit.
LOOP_RESTARTS, LOOP_SECONDS = 2, 60
REASON_LENGTH = 400
CALL_SECONDS = 5.0
SHOWN = ("NRestarts", "ActiveState", "InactiveExitTimestampMonotonic")

RESTARTED = re.compile(r"Scheduled restart job, restart counter is at \d+")
ERROR = re.compile(r"^[EF]\d{4} [\d:.]+ +\d+ [\w.-]+:\d+\] ")
# What the kubelet says last before it ends, the surest first.
LAST_WORDS = (
    re.compile(r'^E\d{4} .*\] "command failed" '),
    re.compile(r'^E\d{4} .*\] "(Failed to (start|initialize)|Kubelet failed) '),
    re.compile(r"^F\d{4} "),
    re.compile(r"^(panic|fatal error): "),
    re.compile(r"^Error: "),
    ERROR,
)
VALUE = re.compile(r'\berr=("(?:[^"\\]|\\.)*")')
# What all such messages have, and nobody needs.
NOISE = re.compile(
    r"^(failed to run Kubelet: |Error: |panic: )"
    r"|failed to merge global and in-flight KubeletConfiguration while setting defaults, error: "
    r"|, path: &TypeMeta\{[^}]*\}|(?<=, )error: (?=\[)"
)


def reason(journal: str) -> str:
    """Why the kubelet ended, in its own words, out of its journal; "" where it says nothing."""
    lines = journal.splitlines()
    for pattern in LAST_WORDS:
        for number in range(len(lines) - 1, -1, -1):
            if pattern.search(lines[number]):
                return _words(lines, number)[:REASON_LENGTH]
    said = [line for line in lines if line.strip() and not line.startswith(UNIT)]
    return said[-1].strip()[:REASON_LENGTH] if said else ""


def _words(lines: Sequence[str], number: int) -> str:
    line = lines[number]
    if line.endswith("err=<"):  # klog's way to write a value of several lines
        told = []
        for below in lines[number + 1 :]:
            if below.strip() == ">":
                break
            told.append(below.strip())
        text = " ".join(told)
    elif found := VALUE.search(line):
        text = _unquoted(found[1])
    else:
        text = ERROR.sub("", line)
    text = NOISE.sub("", NOISE.sub("", text))
    title = re.search(r'\] "((?:[^"\\]|\\.)*)"', line)
    if title and title[1] != "command failed":
        text = f"{title[1]}: {text}" if title[1] not in text else text
    return text.strip()


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:  # Go quotes a little more than JSON
        return text[1:-1]


def may_loop(restarts: int, active: str, up: float) -> bool:
    """Whether its journal has to be looked at. *up*: seconds since its last start.

    *restarts* and *active* are systemd's; it counts since somebody last started it. For a moment
    before each start the unit is inactive, as if somebody had stopped it.
    """
    return restarts >= LOOP_RESTARTS and not (active == "active" and up > LOOP_SECONDS)


def loop(journal: str) -> str:
    """What to say of one that was started again and again, by the last minute of its journal."""
    count = len(RESTARTED.findall(journal))
    if count < LOOP_RESTARTS:
        return ""
    why = reason(journal) or f"it gives no reason; see `journalctl -u {UNIT}`"
    return f"the kubelet has been restarted {count} times in the last minute: {why}"


def look() -> str:
    """`loop` of this machine's kubelet, "" where it is well, or where there is none."""
    shown = _said("systemctl", "show", f"--property={','.join(SHOWN)}", UNIT)
    told = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    up = time.monotonic() - int(told.get("InactiveExitTimestampMonotonic") or 0) / 10**6
    if not may_loop(int(told.get("NRestarts") or 0), told.get("ActiveState", "inactive"), up):
        return ""
    since = f"--since=@{time.time() - LOOP_SECONDS:.6f}"
    return loop(_said("journalctl", f"--unit={UNIT}", since, "--no-pager", "--output=cat"))


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, text=True, errors="replace", timeout=CALL_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{argv[0]} did not answer within {CALL_SECONDS:g} s") from error
    return done.stdout
