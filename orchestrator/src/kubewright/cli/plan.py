# SPDX-License-Identifier: Apache-2.0
"""``kubewright plan``: what an apply would do to which node, and why. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from kubewright.act import Finding, Result, Session
from kubewright.act.findings import TRAFFIC
from kubewright.cli import differences, findings
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.operation import finish, run_playbook, tell_ended
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output, counted, sentence
from kubewright.cli.probe import ProbeReport
from kubewright.cli.state import own_state
from kubewright.cli.validate import tell_newer
from kubewright.locations import ClusterPaths
from kubewright.plan import Answer, NodePlan, Plan, State, Step, decide
from kubewright.spec import Spec, load
from kubewright.spec import inventory as spec_inventory
from kubewright.spec.machines import read
from kubewright.spec.version import newer, release

PLAYBOOK = "kubewright.cluster.plan"
WORDS: dict[State, tuple[str, str]] = {
    "missing": ("would be made, prepared and joined", "green"),
    "new": ("would be prepared and joined", "green"),
    "drifted": ("would be changed", "yellow"),
    "unchanged": ("is as it should be", ""),
    "unreachable": ("does not answer", "red"),
}
COUNTED: dict[State, str] = {
    "missing": "to make",
    "new": "to join",
    "drifted": "to change",
    "unchanged": "unchanged",
    "unreachable": "not reached",
}
Diff = Annotated[bool, typer.Option("--diff", help="Show the files that differ.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(file: File = DEFAULT_FILE, output: Form = Format.TEXT, diff: Diff = False) -> None:
    """Say for each node what apply would do, and why. Asks every node; changes nothing."""
    out = Output(output)
    spec = load(file)
    own_state(spec, file, out)
    decided, result = ask_nodes(spec, file, out, diff=diff)
    data = {
        "cluster": spec.name,
        "kubernetes": release(spec),
        "available": newer(spec) or None,
        **decided.as_dict(),
    }
    out.result(
        {**data, "findings": result.as_dict()["findings"]},
        picture(decided, spec.name, result.findings),
    )
    tell_newer(spec, out)


def ask_nodes(
    spec: Spec,
    file: Path,
    out: Output,
    *,
    diff: bool = False,
    extra_vars: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Plan, Result]:
    """Ask every node, in an operation of its own, and return what would be done.

    :raises CommandError: something failed, or no node has answered.
    """
    decided, result = run_check(spec, file, out, "plan", PLAYBOOK, diff=diff, extra_vars=extra_vars)
    data = {"cluster": spec.name, "kubernetes": release(spec), **decided.as_dict()}
    if result.findings and (failed(result) or all_silent(result)):
        out.notes.print(findings.table(result.findings))
    require_answers(result, out, data)
    return decided, result


def run_check(
    spec: Spec,
    file: Path,
    out: Output,
    operation: str,
    playbook: str,
    *,
    diff: bool,
    extra_vars: Mapping[str, Any],
    report: ProbeReport | None = None,
) -> tuple[Plan, Result]:
    """Run a playbook with --check; return what would be done by what the nodes said in it.

    ``operation``: its name in the journal. ``report``: who listens to its progress.
    """
    paths = ClusterPaths.of(spec.name)
    options = ("--check", "--diff") if diff else ("--check",)
    with Session(paths, operation) as session:
        tell_ended(session, out)
        result = run_playbook(session, out, playbook, file, extra_vars, options, report=report)
    machines = read(paths.machines, spec.name)
    hosts = spec_inventory.build(spec, version=release(spec), paths=paths, machines=machines).hosts
    answers = {name: Answer.from_result(said) for name, said in result.answers.items()}
    return decide(hosts, answers, result.unreachable), result


def failed(result: Result) -> bool:
    """Whether a check says too little. A node that does not answer is part of what it says.

    What failed here, or on a node, is not, unless the run itself could go on without it.
    """
    if result.ok:
        return False
    here = any(failure.host == "localhost" for failure in result.failures)
    cut = result.status in ("canceled", "error")
    return here or cut or result.host_tasks.failed > 0 or not result.answers


def all_silent(result: Result) -> bool:
    """Whether there are machines, and not one has answered."""
    return bool(result.unreachable) and not result.answers


def require_answers(
    result: Result, out: Output, data: Mapping[str, Any], shown: RenderableType = ""
) -> None:
    """Go on where a check says enough. ``data`` and ``shown``: what is told where it does not.

    :raises CommandError: something failed, or no node has answered.
    """
    if failed(result):
        finish(result, out, data, shown)
    if all_silent(result):
        raise CommandError(
            "no node answers",
            remedy=f"Do what the findings say, then start again. The full log is {result.log}",
            code=ExitCode.UNHEALTHY,
            data={**data, **result.as_dict()},
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
    parts += [Text(), findings.table(found), Text()] if found else []
    return Group(*parts, Text(_count(plan, found)))


def why(node: NodePlan) -> str:
    """Return the reason of a node that does not answer, after a colon; empty for others."""
    if node.state != "unreachable":
        return ""
    return f": {node.reason}" if node.reason else ": nothing is known of it"


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
    told += ["the cluster as a whole to change"] if plan.cluster_steps else []
    told = [_nothing(found)] if nothing_to_do(plan) else told
    told += [findings.count(found)] if found else []
    return sentence(told)


def _nothing(found: tuple[Finding, ...]) -> str:
    """Say that no node would be changed, which is no good news where traffic does not flow."""
    stuck = {one.host for one in found if one.check == TRAFFIC}
    if not stuck:
        return "nothing to do"
    nodes = counted(len(stuck), "node")
    return f"traffic does not flow through {nodes}, and there is nothing for apply to change"


def nothing_to_do(plan: Plan) -> bool:
    """Whether all nodes have answered, and an apply would change none of them."""
    return not plan.changes and {node.state for node in plan.nodes} <= {"unchanged"}
