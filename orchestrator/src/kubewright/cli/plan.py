# SPDX-License-Identifier: Apache-2.0
"""``kubewright plan``: what an apply would do to which node, and why. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from kubewright.act import Finding
from kubewright.act.findings import TRAFFIC
from kubewright.act.messages import named
from kubewright.cli import differences, findings
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.outcome import finish
from kubewright.cli.output import Format, Output, counted, sentence
from kubewright.cli.state import opened
from kubewright.cli.validate import tell_newer
from kubewright.cli.watching import Terminal
from kubewright.operate import Cluster, Look
from kubewright.operate import look as operation
from kubewright.plan import NodePlan, Plan, State, Step
from kubewright.spec import load
from kubewright.spec.version import newer, release

WORDS: dict[State, tuple[str, str]] = {
    "missing": ("would be created, prepared and joined", "green"),
    "new": ("would be prepared and joined", "green"),
    "drifted": ("would be changed", "yellow"),
    "unchanged": ("up to date", ""),
    "unreachable": ("does not answer", "red"),
}
COUNTED: dict[State, str] = {
    "missing": "to create",
    "new": "to join",
    "drifted": "to change",
    "unchanged": "unchanged",
    "unreachable": "not reached",
}
Diff = Annotated[bool, typer.Option("--diff", help="Show file differences.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(file: File = DEFAULT_FILE, output: Form = Format.TEXT, diff: Diff = False) -> None:
    """Show what apply would do to each node, and why. Checks every node; changes nothing."""
    out = Output(output)
    spec = load(file)
    cluster = opened(spec, file, out)
    look = asked(cluster, out, diff=diff)
    data = {
        "cluster": spec.name,
        "kubernetes": release(spec),
        "available": newer(spec) or None,
        **look.plan.as_dict(),
    }
    out.result(
        {**data, "findings": look.result.as_dict()["findings"]},
        picture(look.plan, spec.name, look.result.findings),
    )
    tell_newer(spec, out)


def asked(
    cluster: Cluster,
    out: Output,
    *,
    diff: bool = False,
    extra_vars: Mapping[str, Any] = MappingProxyType({}),
) -> Look:
    """Ask every node, and return what would be done.

    :raises CommandError: something failed, or no node has answered.
    """
    look = operation.plan(cluster, Terminal(out), diff=diff, extra_vars=extra_vars)
    data = {"cluster": cluster.name, "kubernetes": cluster.release, **look.plan.as_dict()}
    if look.result.findings and (look.failed or look.all_silent):
        out.notes.print(findings.table(look.result.findings))
    require_answers(look, out, data)
    return look


def require_answers(
    look: Look, out: Output, data: Mapping[str, Any], shown: RenderableType = ""
) -> None:
    """Go on where a look says enough. ``data`` and ``shown``: what is told where it does not.

    :raises CommandError: something failed, or no node has answered.
    """
    if look.failed:
        finish(look.result, out, data, shown)
    if look.all_silent:
        raise CommandError(
            "no node answers",
            remedy="Fix the findings, then run the command again. The full log is "
            f"{look.result.log}",
            code=ExitCode.UNHEALTHY,
            data={**data, **look.result.as_dict()},
        )


def picture(plan: Plan, cluster: str, found: tuple[Finding, ...] = ()) -> RenderableType:
    """A tree: nodes, what would happen to them, and the reasons below; findings; then a count."""
    root = Tree(Text(cluster, style="bold"))
    for node in plan.nodes:
        words, style = WORDS[node.state]
        branch = root.add(Text(f"{node.name} {words}{why(node)}", style=style))
        _add_steps(branch, node.steps)
        for text in node.unknown:
            branch.add(Text(f"not known: {text}", style="red"))
    if plan.cluster_steps:
        _add_steps(root.add(Text("the cluster as a whole", style="yellow")), plan.cluster_steps)
    parts: list[RenderableType] = [root, *_diffs(plan.nodes)]
    parts += [Text(_order(plan.waves))] if len(plan.waves) > 1 else []
    parts += [Text(), findings.table(found), Text()] if found else []
    return Group(*parts, Text(_count(plan, found)))


def _order(waves: tuple[tuple[str, ...], ...]) -> str:
    """Say who is changed before whom."""
    turns = "; then ".join(named(wave) for wave in waves)
    return f"Running nodes are changed in this order: {turns}."


def why(node: NodePlan) -> str:
    """Return the reason of a node that does not answer, after a colon; empty for others."""
    if node.state != "unreachable":
        return ""
    return f": {node.reason}" if node.reason else ": nothing is known about it"


def _add_steps(branch: Tree, steps: tuple[Step, ...]) -> None:
    for step in steps:
        leaf = branch.add(Text(step.role))
        for reason in step.reasons:
            leaf.add(Text(reason))


def _diffs(nodes: tuple[NodePlan, ...]) -> list[Text]:
    return [
        line for node in nodes for one in node.diff for line in differences.lines(node.name, one)
    ]


def _count(plan: Plan, found: tuple[Finding, ...]) -> str:
    states = [node.state for node in plan.nodes]
    told = [
        f"{counted(states.count(state), 'node')} {word}"
        for state, word in COUNTED.items()
        if state in states
    ]
    told += ["the cluster itself to change"] if plan.cluster_steps else []
    told = [_nothing(found)] if plan.nothing_to_do else told
    told += [findings.count(found)] if found else []
    return sentence(told)


def _nothing(found: tuple[Finding, ...]) -> str:
    """Say that no node would be changed, which is no good news where traffic does not flow."""
    stuck = {one.host for one in found if one.check == TRAFFIC}
    if not stuck:
        return "nothing to do"
    nodes = counted(len(stuck), "node")
    return f"traffic does not pass through {nodes}, and apply has nothing to change"
