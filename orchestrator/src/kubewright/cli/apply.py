# SPDX-License-Identifier: Apache-2.0
"""``kubewright apply``: make the cluster, or bring it back to what the file says."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from kubewright.act import Finding, Result
from kubewright.act.findings import in_one_sentence
from kubewright.act.messages import named
from kubewright.cli import check, findings, plan
from kubewright.cli.exits import CommandError, ExitCode
from kubewright.cli.options import DEFAULT_FILE, File, Form, Yes
from kubewright.cli.outcome import finish, work_done
from kubewright.cli.output import Format, Output, counted
from kubewright.cli.probe import ProbeReport
from kubewright.cli.state import opened
from kubewright.cli.validate import summary, tell_newer
from kubewright.cli.watching import Terminal
from kubewright.locations import ClusterPaths
from kubewright.operate import Agreement, Cluster, Look
from kubewright.operate import converge as operation
from kubewright.operate.look import is_settled
from kubewright.spec import Spec, load, roster
from kubewright.spec.machines import MachinesError, read

Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Dry run: list what would change, by host and task. Only machines.json is written.",
    ),
]
Diff = Annotated[
    bool,
    typer.Option("--diff", help="Show file differences, with --check or before the confirmation."),
]
SkipUnreachable = Annotated[
    bool, typer.Option("--skip-unreachable", help="Continue without nodes that do not answer.")
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
    """Create the cluster, or bring it in line with cluster.yml. Never removes a machine.

    Shows the plan and asks for confirmation, unless --yes is given.
    """
    out = Output(output)
    if diff and yes and not check_only:
        raise CommandError(
            "--diff has no effect together with --yes",
            remedy="Add --check, or remove --yes.",
            code=ExitCode.BAD_INPUT,
        )
    spec = load(file)
    extra_vars: dict[str, Any] = {operation.SKIP_UNREACHABLE: True} if skip_unreachable else {}
    cluster = opened(spec, file, out)
    out.note(summary(spec, cluster.release))
    tell_newer(spec, out)
    if check_only:
        check.run(cluster, out, diff=diff, extra_vars=extra_vars)
        return
    told: tuple[Finding, ...] = ()
    agreement: Agreement | None = None
    if yes:
        out.note(_intention(spec, cluster.paths))
    else:
        out.must_be_able_to_ask()
        look = plan.asked(cluster, out, diff=diff, extra_vars=extra_vars)
        if is_settled(cluster, look):
            _tell_nothing_to_do(cluster, look.result, out)
            return
        out.notes.print(plan.picture(look.plan, spec.name, look.result.findings))
        told = look.result.findings
        without = _confirmed_without(look, out, skip=skip_unreachable)
        if without:
            extra_vars[operation.SKIP_UNREACHABLE] = True
        agreement = Agreement(cluster, look.after, without)
    watch = Terminal(out, ProbeReport(answers=yes, told=told))
    _converge(cluster, out, watch, agreement, extra_vars)


def _converge(
    cluster: Cluster,
    out: Output,
    watch: Terminal,
    agreement: Agreement | None,
    extra_vars: dict[str, Any],
) -> None:
    made = operation.converge(cluster, watch, agreement=agreement, extra_vars=extra_vars)
    result = made.result
    data = {"cluster": cluster.name, "kubernetes": cluster.release, "epoch": made.epoch}
    if agreement and result.ok:
        agreement.require_no_others(result.unreachable, {**data, **result.as_dict()})
    finish(
        result,
        out,
        data,
        f"{cluster.name} matches {cluster.file}: {work_done(result)}.\n"
        "Credentials: (umask 077; kubewright kubeconfig -f "
        f"{shlex.quote(str(cluster.file))} > {cluster.name}.kubeconfig)",
    )


def _tell_nothing_to_do(cluster: Cluster, asked: Result, out: Output) -> None:
    if asked.findings:
        out.notes.print(findings.table(asked.findings))
    # In a check Ansible calls changed what would be written down here, such as when it was asked.
    data = {**asked.as_dict(), "changed": False}
    told = f"{counted(asked.host_tasks.total, 'host-task')}, {asked.seconds:.0f} s"
    out.result(
        {"cluster": cluster.name, "kubernetes": cluster.release, "epoch": None, **data},
        f"{cluster.name} matches {cluster.file}: nothing to do, {told}.",
    )


def _confirmed_without(look: Look, out: Output, *, skip: bool) -> frozenset[str]:
    """Return, after a yes, the nodes that did not answer and that the user goes on without.

    ``skip``: they had agreed to any, so that none is asked for.

    :raises CommandError: there was no yes, or the run would end at its preflight.
    """
    decided, asked = look.plan, look.result
    silent = [node.name for node in decided.nodes if node.name in asked.unreachable]
    # Of a machine that the run is going to make or to start, nothing is known yet.
    unknown = {node.name for node in decided.nodes if node.state in ("missing", "unreachable")}
    fatal = [one for one in asked.findings if one.fatal and one.host not in unknown]
    if fatal:
        raise CommandError(
            in_one_sentence(fatal),
            remedy="Fix what the last column says, then run the command again. Nothing was "
            "changed.",
            data={"findings": asked.as_dict()["findings"]},
        )
    if not silent or skip:
        out.confirm("Apply these changes?", yes=False)
        return frozenset()
    verb = "does" if len(silent) == 1 else "do"
    out.confirm(f"{named(silent)} {verb} not answer. Continue without?", yes=False)
    return frozenset(silent)


def _intention(spec: Spec, paths: ClusterPaths) -> str:
    """Return what will be done to which machines, as far as is known before it begins."""
    try:
        machines = read(paths.machines, spec.name)
    except MachinesError as error:
        return f"the list of machines can't be read ({error})"
    known, hosts = machines.by_name(), roster.of(spec, machines).hosts
    # Machines of one's own are there, whether or not they have been listed.
    new = [host for host in hosts if host not in {*known, *spec.own_hosts()}]
    made = f"makes {counted(len(new), 'machine')} ({', '.join(new)})" if new else ""
    kept = f"checks {counted(len(hosts) - len(new), 'machine')}" if len(new) < len(hosts) else ""
    return f"apply {' and '.join(filter(None, [made, kept]))}"
