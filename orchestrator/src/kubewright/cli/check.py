# SPDX-License-Identifier: Apache-2.0
"""``kubewright apply --check``: every play of an apply, without its changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from kubewright.act import Change, Finding
from kubewright.act.events import LOCAL
from kubewright.cli import differences, findings
from kubewright.cli.output import Output, counted, sentence
from kubewright.cli.plan import WORDS, require_answers, why
from kubewright.cli.probe import ProbeReport
from kubewright.cli.watching import Terminal
from kubewright.operate import Cluster
from kubewright.operate import look as operation
from kubewright.plan import Plan


def run(cluster: Cluster, out: Output, *, diff: bool, extra_vars: Mapping[str, Any]) -> None:
    """Run the plays with --check, and tell what they would change.

    Nodes that have no machine yet have no tasks either: they are named.

    :raises CommandError: the run did not end well.
    """
    watch = Terminal(out, ProbeReport(answers=False))
    look = operation.check(cluster, watch, diff=diff, extra_vars=extra_vars)
    changes = _on_nodes(look.result.changes)
    data = {
        "cluster": cluster.name,
        "kubernetes": cluster.release,
        "check": True,
        "would_change": [change.as_dict() for change in changes],
        "missing": [node.name for node in look.plan.nodes if node.state == "missing"],
    }
    shown = picture(cluster.name, look.plan, changes, look.result.findings)
    require_answers(look, out, data, shown)
    out.result({**data, **look.result.as_dict()}, shown)


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
    told = [f"{counted(missing, 'node')} to create"] if missing else []
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
