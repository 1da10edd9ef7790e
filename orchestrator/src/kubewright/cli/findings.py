# SPDX-License-Identifier: Apache-2.0
"""The preflight's findings as a table: where, which check, what it is, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from kubewright.act import Finding
from kubewright.act.messages import named
from kubewright.cli.output import counted

#: Hosts with the same finding that are named; the others are counted.
MOST_HOSTS = 4
#: Columns that their names may take side by side; a longer name takes what it needs.
HOST_WIDTH = 24
STYLES = {"fatal": "red", "warning": "yellow"}


def table(findings: Iterable[Finding]) -> Table:
    """Return the table, fatal findings first. What several hosts have in common is one row."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for one in sorted(findings, key=lambda one: not one.fatal):
        groups.setdefault((one.severity, one.check, one.text, one.remedy), []).append(one.host)
    drawn = Table("host", "check", "what", "what to do", box=None, pad_edge=False)
    for column in drawn.columns:
        column.overflow = "fold"  # a name or a path that is cut is of no use
    names = [named(hosts, MOST_HOSTS) for hosts in groups.values()]
    longest = max((len(word) for told in names for word in told.split()), default=0)
    # Names stand below each other rather than that the other columns have no room.
    drawn.columns[0].max_width = max(longest, HOST_WIDTH)
    for told, (severity, check, text, remedy) in zip(names, groups, strict=True):
        style = STYLES[severity]
        drawn.add_row(
            Text(told, style=style),
            # Told apart without colours too.
            Text(f"{check} ({severity})", style=style),
            Text(text, style=style),
            Text(remedy),
        )
    return drawn


def count(findings: Iterable[Finding]) -> str:
    """Return how many there are of each severity, such as ``1 fatal finding, 2 warnings``."""
    fatal = [one.fatal for one in findings]
    parts = [counted(sum(fatal), "fatal finding")] if any(fatal) else []
    parts += [counted(fatal.count(False), "warning")] if not all(fatal) else []
    return ", ".join(parts)
