# SPDX-License-Identifier: Apache-2.0
"""The failures in the log of a run, as ansible-playbook printed them. Pure.

The words are those of its default output (ansible/plugins/callback/default.py): a result is JSON
on one line after ``=>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from kubewright.act.messages import failure_message
from kubewright.act.result import Failure

_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*)\] \**$")
_FAILED = re.compile(
    r"^(?P<kind>fatal|failed): \[(?P<host>[^\s\]]+)(?: -> [^\]]+)?\]"
    r"(?:: (?:FAILED|UNREACHABLE)!)?(?P<item> \(item=.*?\))? => (?P<result>.*)$"
)
#: ``demo-cp-1 : ok=4 changed=2 unreachable=0 failed=1 skipped=0 rescued=0 ignored=0``
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+ .*unreachable=(\d+)\s+failed=(\d+)")
_IGNORED = "...ignoring"


def failures(log: Iterable[str]) -> list[Failure]:
    """Return the tasks that made the run fail, in the order of the log's lines.

    Neither what was ignored nor, where the log has its recap, what was rescued.
    """
    found: list[Failure] = []
    items: dict[tuple[str, str], list[str]] = {}
    lost: set[str] | None = None
    task = ""
    for line in log:
        if header := _TASK.match(line):
            task = header[1].rpartition(" : ")[2]
        elif failed := _FAILED.match(line):
            host = failed["host"]
            message = _message(failed["result"])
            if failed["item"]:
                items.setdefault((host, task), []).append(message)
                continue
            of_items = items.pop((host, task), [])
            found.append(Failure(host, task, "; ".join(dict.fromkeys(of_items)) or message))
        elif line.strip() == _IGNORED and found:
            found.pop()
        elif line.startswith("PLAY RECAP"):
            lost = set()
        elif lost is not None and (recap := _RECAP.match(line)):
            lost |= {recap[1]} if int(recap[2]) or int(recap[3]) else set()
    return [one for one in found if lost is None or one.host in lost]


def has_task(log: Iterable[str]) -> bool:
    """Return whether any task began, by the log's lines."""
    return any(_TASK.match(line) for line in log)


def _message(text: str) -> str:
    try:
        result: Any = json.loads(text)
    except ValueError:
        return text.strip()  # the run was cut in the middle of the line
    return failure_message(result) if isinstance(result, dict) else text.strip()
