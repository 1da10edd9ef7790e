# SPDX-License-Identifier: Apache-2.0
"""What the preflight found of the machines, as the action preflight_report returns it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kubewright.act.messages import named, plain

#: The action whose results hold findings; when one is fatal, the action fails.
REPORT = "kubewright.cluster.preflight_report"

#: The check of traffic through nodes that are at work, which an apply waits for.
TRAFFIC = "traffic"

Severity = Literal["fatal", "warning"]


@dataclass(frozen=True)
class Finding:
    """What a check found on a host: in words, with what to do about it.

    ``check``: the check's name, such as ``swap``. A fatal one ends an apply before it writes.
    """

    host: str
    check: str
    severity: Severity
    text: str
    remedy: str

    @property
    def fatal(self) -> bool:
        """Whether an apply stops for it."""
        return self.severity == "fatal"


def read_findings(result: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return the findings in a result of the report, fatal ones first, in its order otherwise."""
    found = [_finding(one) for one in result.get("findings") or () if isinstance(one, Mapping)]
    return tuple(sorted(found, key=lambda one: not one.fatal))


def _finding(one: Mapping[str, Any]) -> Finding:
    # One of a severity that is not known counts as fatal: better told too loud than not at all.
    severity: Severity = "warning" if one.get("severity") == "warning" else "fatal"
    host, check, text, remedy = (
        plain(str(one.get(key) or "")) for key in ("host", "check", "text", "remedy")
    )
    return Finding(host, check, severity, text, remedy)


def in_one_sentence(findings: Iterable[Finding]) -> str:
    """Return how many fatal findings there are, and where, for who sees the findings elsewhere."""
    fatal = [one for one in findings if one.fatal]
    hosts = list(dict.fromkeys(one.host for one in fatal if one.host))
    shown = named(hosts)
    what = "1 problem that has" if len(fatal) == 1 else f"{len(fatal)} problems that have"
    return f"the preflight found {what} to be fixed first" + (f": {shown}" if shown else "")
