# SPDX-License-Identifier: Apache-2.0
"""``kubewright apply``: make the cluster, or bring it back to what the file says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from kubewright.act import Finding, Result, Session
from kubewright.act.findings import TRAFFIC, in_one_sentence
from kubewright.act.messages import named
from kubewright.cli import check, findings, plan
from kubewright.cli.agreement import Agreement
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.operation import finish, run_playbook, tell_ended, work_done
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.output import Format, Output, counted
from kubewright.cli.probe import ProbeReport
from kubewright.cli.progress import Progress
from kubewright.cli.state import own_state
from kubewright.cli.validate import summary, tell_newer
from kubewright.image import ROLES, Image, build
from kubewright.locations import ClusterPaths
from kubewright.observe.health import expected_hosts
from kubewright.plan import Plan
from kubewright.spec import Spec, load
from kubewright.spec.machines import MachinesError, read
from kubewright.spec.version import release
from kubewright.store import images

PLAYBOOK = "kubewright.cluster.site"
#: Lets a new cluster begin without nodes that do not answer (playbooks/site.yml).
SKIP_UNREACHABLE = "kubewright_skip_unreachable"

Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Say what would be done, by host and task. Only the list of machines is written.",
    ),
]
Diff = Annotated[
    bool, typer.Option("--diff", help="Show the files that differ: with --check, or before asking.")
]
SkipUnreachable = Annotated[
    bool, typer.Option("--skip-unreachable", help="Go on without nodes that do not answer.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(apply)


def apply(
    file: File = DEFAULT_FILE,
    output: Form = Format.TEXT,
    yes: Yes = False,
    check_only: Check = False,
    diff: Diff = False,
    skip_unreachable: SkipUnreachable = False,
) -> None:
    """Make the cluster, or bring it back to what cluster.yml says. Never removes a machine.

    Shows the plan and asks, unless --yes is said.
    """
    out = Output(output)
    if diff and yes and not check_only:
        raise CommandError(
            "--diff is of no use where nobody looks before it is done",
            remedy="Say --check too, or leave --yes out.",
            code=ExitCode.BAD_INPUT,
        )
    spec = load(file)
    extra_vars: dict[str, Any] = {SKIP_UNREACHABLE: True} if skip_unreachable else {}
    own_state(spec, file, out)
    out.note(summary(spec, release(spec)))
    tell_newer(spec, out)
    if check_only:
        check.run(spec, file, out, diff=diff, extra_vars=extra_vars)
        return
    told: tuple[Finding, ...] = ()
    agreement: Agreement | None = None
    if yes:
        out.note(_intention(spec, ClusterPaths.of(spec.name)))
    else:
        out.must_be_able_to_ask()
        decided, asked = plan.ask_nodes(spec, file, out, diff=diff, extra_vars=extra_vars)
        if _is_settled(spec, decided, asked):
            _tell_nothing_to_do(spec, file, asked, out)
            return
        out.notes.print(plan.picture(decided, spec.name, asked.findings))
        told = asked.findings
        without = _confirmed_without(decided, asked, out, skip=skip_unreachable)
        if without:
            extra_vars[SKIP_UNREACHABLE] = True
        agreement = Agreement(spec, file, asked.run, without)
    report = ProbeReport(answers=yes, told=told)
    _converge(spec, file, out, extra_vars, report, agreement)


def _converge(
    spec: Spec,
    file: Path,
    out: Output,
    extra_vars: dict[str, Any],
    report: ProbeReport,
    agreement: Agreement | None,
) -> None:
    version = release(spec)
    with Session(ClusterPaths.of(spec.name), "apply") as session:
        if agreement:
            agreement.require_unchanged()
        tell_ended(session, out)
        made = _build_images(version, out)
        if agreement:
            agreement.require_unchanged()  # a build takes minutes, and the playbook reads the file
        images.note(session.paths.images, (image.digest for image in made), only=True)
        epoch = session.next_epoch()
        variables = {"kubewright_epoch": epoch, **extra_vars}
        result = run_playbook(session, out, PLAYBOOK, file, variables, report=report)
    data = {"cluster": spec.name, "kubernetes": version, "epoch": epoch}
    if agreement and result.ok:
        agreement.require_no_others(result.unreachable, {**data, **result.as_dict()})
    finish(
        result,
        out,
        data,
        f"{spec.name} is as {file} says: {work_done(result)}.\n"
        f"Credentials: (umask 077; kubewright kubeconfig -f {shlex.quote(str(file))} "
        f"> {spec.name}.kubeconfig)",
    )


def _is_settled(spec: Spec, decided: Plan, asked: Result) -> bool:
    """Whether an apply would find nothing to do and nothing to wait for, here and on the nodes."""
    paths = ClusterPaths.of(spec.name)
    nodes = [answer.get("node") or {} for answer in asked.answers.values()]
    return (
        plan.nothing_to_do(decided)
        and not any(finding.fatal or finding.check == TRAFFIC for finding in asked.findings)
        and all(node.get("ready", True) for node in nodes)
        and paths.kubeconfig.exists()
        and _has_begun(paths)
    )


def _has_begun(paths: ClusterPaths) -> bool:
    """Whether it is recorded that the cluster has begun: a run that was cut is finished for that.

    The file is the collection's (cluster_identity); what can't be read is judged by the run.
    """
    try:
        return bool(json.loads((paths.identity / "cluster.json").read_bytes())["begun"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _tell_nothing_to_do(spec: Spec, file: Path, asked: Result, out: Output) -> None:
    if asked.findings:
        out.notes.print(findings.table(asked.findings))
    # In a check Ansible calls changed what would be written down here, such as when it was asked.
    data = {**asked.as_dict(), "changed": False}
    told = f"{counted(asked.host_tasks.total, 'host-task')}, {asked.seconds:.0f} s"
    out.result(
        {"cluster": spec.name, "kubernetes": release(spec), "epoch": None, **data},
        f"{spec.name} is as {file} says: nothing to do, {told}.",
    )


def _confirmed_without(decided: Plan, asked: Result, out: Output, *, skip: bool) -> frozenset[str]:
    """Return, after a yes, the nodes that did not answer and that the user goes on without.

    ``skip``: they had agreed to any, so that none is asked for.

    :raises CommandError: there was no yes, or the run would end at its preflight.
    """
    silent = [node.name for node in decided.nodes if node.name in asked.unreachable]
    # Of a machine that the run is going to make or to start, nothing is known yet.
    unknown = {node.name for node in decided.nodes if node.state in ("missing", "unreachable")}
    fatal = [one for one in asked.findings if one.fatal and one.host not in unknown]
    if fatal:
        raise CommandError(
            in_one_sentence(fatal),
            remedy="Do what the last column says, then start again. Nothing was done.",
            data={"findings": asked.as_dict()["findings"]},
        )
    if not silent or skip:
        out.confirm("Do it?", yes=False)
        return frozenset()
    verb = "does" if len(silent) == 1 else "do"
    out.confirm(f"{named(silent)} {verb} not answer. Do it without?", yes=False)
    return frozenset(silent)


def _intention(spec: Spec, paths: ClusterPaths) -> str:
    """Return what will be done to which machines, as far as is known before it begins."""
    hosts = expected_hosts(spec)
    try:
        known = read(paths.machines, spec.name).by_name()
    except MachinesError as error:
        return f"which machines there are is not known ({error})"
    # Machines of one's own are there, whether or not they have been listed.
    new = [host for host in hosts if host not in {*known, *spec.own_hosts()}]
    made = f"makes {counted(len(new), 'machine')} ({', '.join(new)})" if new else ""
    kept = f"checks {counted(len(hosts) - len(new), 'machine')}" if len(new) < len(hosts) else ""
    return f"apply {' and '.join(filter(None, [made, kept]))}"


def _build_images(version: str, out: Output) -> list[Image]:
    """Build the system images that are not in the store: minutes at first, nothing later."""
    with Progress(out.notes) as progress:
        return build(version, ROLES, lambda line, _: progress.line(line))
