# SPDX-License-Identifier: Apache-2.0
"""``kubewright plan``: what an apply would do to which node, and why. Changes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from kubewright.act import Result, Session
from kubewright.cli.operation import finish, run_playbook, tell_ended
from kubewright.cli.options import DEFAULT_FILE, File, Form
from kubewright.cli.output import Format, Output, counted
from kubewright.locations import ClusterPaths
from kubewright.plan import Answer, NodePlan, Plan, State, Step, decide
from kubewright.spec import Spec, load
from kubewright.spec import inventory as spec_inventory
from kubewright.spec.machines import read
from kubewright.spec.version import resolve

PLAYBOOK = "kubewright.cluster.plan"
WORDS: dict[State, tuple[str, str]] = {
    "missing": ("would be made, prepared and joined", "green"),
    "new": ("would be prepared and joined", "green"),
    "drifted": ("would be mended", "yellow"),
    "unchanged": ("is as it should be", ""),
    "unreachable": ("does not answer: nothing is known of it", "red"),
}
COUNTED: dict[State, str] = {
    "missing": "to make",
    "new": "to join",
    "drifted": "to mend",
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
    version = resolve(spec.version)
    paths = ClusterPaths.of(spec.name)
    options = ("--check", "--diff") if diff else ("--check",)
    with Session(paths, "plan") as session:
        tell_ended(session, out)
        result = run_playbook(session, out, PLAYBOOK, file, {}, options)
    decided = _decided(spec, version, paths, result)
    data = {"cluster": spec.name, "kubernetes": version, **decided.as_dict()}
    # A node that did not answer is part of the plan; what failed here, or on a node, is not.
    here = any(failure.host == "localhost" for failure in result.failures)
    failed = here or result.host_tasks.failed > 0 or result.status in ("canceled", "error")
    if failed or not (result.ok or result.answers):
        finish(result, out, data, "")
    out.result(data, picture(decided, spec.name))


def _decided(spec: Spec, version: str, paths: ClusterPaths, result: Result) -> Plan:
    machines = read(paths.machines, spec.name)
    hosts = spec_inventory.build(spec, version=version, paths=paths, machines=machines).hosts
    answers = {name: Answer.from_result(said) for name, said in result.answers.items()}
    return decide(hosts, answers)


def picture(plan: Plan, cluster: str) -> RenderableType:
    """A tree: nodes, what would happen to them, and the reasons below; then a count."""
    root = Tree(Text(cluster, style="bold"))
    for node in plan.nodes:
        words, style = WORDS[node.state]
        branch = root.add(Text(f"{node.name} {words}", style=style))
        _add_steps(branch, node.steps)
        for text in node.unknown:
            branch.add(Text(f"not known: {text}", style="red"))
    if plan.cluster_steps:
        _add_steps(root.add(Text("the cluster as a whole", style="yellow")), plan.cluster_steps)
    parts: list[RenderableType] = [root, *_diffs(plan.nodes), Text(_count(plan))]
    return Group(*parts)


def _add_steps(branch: Tree, steps: tuple[Step, ...]) -> None:
    for step in steps:
        leaf = branch.add(Text(step.role))
        for reason in step.reasons:
            leaf.add(Text(reason))


def _diffs(nodes: tuple[NodePlan, ...]) -> list[Text]:
    found = []
    for node in nodes:
        for one in node.diff:
            found.append(Text(f"\n{node.name}: {one['before_header']}", style="bold"))
            found += [Text(line, style=_colour(line)) for line in _lines(one)]
    return found


def _lines(diff: Mapping[str, str]) -> list[str]:
    before, after = diff["before"].splitlines(), diff["after"].splitlines()
    return list(difflib.unified_diff(before, after, "is", "should be", lineterm="", n=2))


def _colour(line: str) -> str:
    return {"-": "red", "+": "green", "@": "cyan"}.get(line[:1], "")


def _count(plan: Plan) -> str:
    states = [node.state for node in plan.nodes]
    told = [
        f"{counted(states.count(state), 'node')} {word}"
        for state, word in COUNTED.items()
        if state in states
    ]
    told += ["the cluster as a whole to mend"] if plan.cluster_steps else []
    if not plan.changes and set(states) <= {"unchanged"}:
        return "Nothing to do."
    return f"{', '.join(told)}."
