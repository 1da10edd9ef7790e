# SPDX-License-Identifier: Apache-2.0
"""The table ``PLAY RECAP`` at the end of what ansible-playbook prints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TITLE = re.compile(r"^PLAY RECAP \*+\s*$", re.MULTILINE)
_LINE = re.compile(
    r"^(?P<host>\S+)\s+:\s+ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+"
    r"unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)\s+skipped=\d+\s+"
    r"rescued=(?P<rescued>\d+)\s+ignored=\d+\s*$"
)
_LOCAL = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Counts:
    """Results of one host. Ansible counts what changed, and what was ignored, as ok, too."""

    ok: int
    changed: int
    unreachable: int
    failed: int
    rescued: int

    @property
    def host_tasks(self) -> int:
        """How many tasks ran there, or tried to."""
        return self.ok + self.unreachable + self.failed + self.rescued


def parse(text: str) -> dict[str, Counts]:
    """Return the counts by host of the last recap in ``text``, without colours.

    :raises ValueError: there is none, or it has no host.
    """
    titles = list(_TITLE.finditer(text))
    if not titles:
        raise ValueError("there is no PLAY RECAP: the playbook did not come to its end")
    found = {}
    for line in text[titles[-1].end() :].splitlines():
        if match := _LINE.match(line):
            counts = {key: int(value) for key, value in match.groupdict().items() if key != "host"}
            found[match["host"]] = Counts(**counts)
    if not found:
        raise ValueError("the PLAY RECAP has no host")
    return found


def of_machines(counts: Mapping[str, Counts]) -> dict[str, Counts]:
    """Return those that are not the controller itself and that a task ran on."""
    return {
        host: count for host, count in counts.items() if host not in _LOCAL and count.host_tasks
    }


def changed(counts: Mapping[str, Counts]) -> frozenset[str]:
    """Return the hosts that something changed on."""
    return frozenset(host for host, count in counts.items() if count.changed)
