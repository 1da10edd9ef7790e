# SPDX-License-Identifier: Apache-2.0
"""``kubewright apply --check``: every play of an apply, without its changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from kubewright.act import Change, Finding
from kubewright.act.events import LOCAL
from kubewright.cli import differences, findings
from kubewright.cli.output import Output, counted, sentence
from kubewright.cli.plan import WORDS, require_answers, run_check, why
from kubewright.cli.probe import ProbeReport
from kubewright.plan import Plan
from kubewright.spec import Spec
from kubewright.spec.version import release

PLAYBOOK = "kubewright.cluster.site"


def run(spec: Spec, file: Path, out: Output, *, diff: bool, extra_vars: Mapping[str, Any]) -> None:
    """Run the plays with --check, and tell what they would change.

    No epoch is taken for it. Nodes that have no machine yet have no tasks either: they are named.

    :raises CommandError: the run did not end well.
    """
    report = ProbeReport(answers=False)
    decided, result = run_check(
        spec, file, out, "check", PLAYBOOK, diff=diff, extra_vars=extra_vars, report=report
    )
    changes = _on_nodes(result.changes)
    data = {
        "cluster": spec.name,
        "kubernetes": release(spec),
        "check": True,
        "would_change": [change.as_dict() for change in changes],
        "missing": [node.name for node in decided.nodes if node.state == "missing"],
    }
    shown = picture(spec.name, decided, changes, result.findings)
    require_answers(result, out, data, shown)
    out.result({**data, **result.as_dict()}, shown)


def _on_nodes(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return the changes by host, in the order of the tasks; this machine is no host of it."""
    return tuple(
        sorted((one for one in changes if one.host not in LOCAL), key=lambda change: change.host)
    )


def picture(
    cluster: str, plan: Plan, changes: tuple[Change, ...], found: tuple[Finding, ...]
) -> RenderableType:
    """A tree: hosts, and the tasks that would change something; differences; then a count."""
    root = Tree(Text(cluster, style="bold"))
    for node in plan.nodes:
        if node.state in ("missing", "unreachable"):
            words, style = WORDS[node.state]
            root.add(Text(f"{node.name} {words}{why(node)}", style=style))
    for host in dict.fromkeys(change.host for change in changes):
        branch = root.add(Text(host, style="yellow"))
        for task in dict.fromkeys(change.task for change in changes if change.host == host):
            branch.add(Text(task))
    shown = [
        line
        for change in changes
        for one in change.diff
        for line in differences.lines(change.host, one)
    ]
    parts: list[RenderableType] = [root] if root.children else []
    return Group(*parts, *shown, Text(_count(plan, changes, found)))


def _count(plan: Plan, changes: tuple[Change, ...], found: tuple[Finding, ...]) -> str:
    missing = sum(node.state == "missing" for node in plan.nodes)
    told = [f"{counted(missing, 'node')} to make"] if missing else []
    hosts = {change.host for change in changes}
    told += (
        [f"{counted(len(changes), 'task')} would change {counted(len(hosts), 'host')}"]
        if changes
        else []
    )
    silent = sum(node.state == "unreachable" for node in plan.nodes)
    told += [f"{counted(silent, 'node')} not reached"] if silent else []
    told = told or ["nothing would be changed"]
    told += [findings.count(found)] if found else []
    return sentence(told)
