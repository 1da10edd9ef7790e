# SPDX-License-Identifier: Apache-2.0
"""New clusters, one after the other: applied, recorded, killed, repaired, and always destroyed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import checks
import kube as api
from cluster import APPLY_LIMIT, COMMAND, Cluster, Ended, Running
from machines import CommandFailed, run_on
from points import Kill
from results import LabError, Outcome

NAME = "kwchaos"
CALLBACKS = Path(__file__).resolve().with_name("callback")
_PLUGIN = {"ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "chaos"}
#: Lines of each node's journal that are kept of a failure.
_JOURNAL_LINES = 3000


class NotReached(Exception):
    """The run was not killed where it should have been: a fault of the test or its recording."""


@dataclass
class _Applies:
    """The applies of one kill, as far as they came."""

    killed: Ended | None = None
    repaired: Ended | None = None
    again: Ended | None = None
    #: Where the exception came from, for whoever looks for the reason.
    trace: str = ""

    def each(self) -> dict[str, Ended]:
        """Return those that there were, by name."""
        named = {"killed": self.killed, "repaired": self.repaired, "again": self.again}
        return {name: ended for name, ended in named.items() if ended is not None}

    def outcome(self, kill: Kill) -> Outcome:
        """Return their seconds and what the repair said, as of a kill that passed."""
        seconds = {name: round(ended.seconds, 1) for name, ended in self.each().items()}
        return Outcome(
            key=kill.key,
            verdict="passed",
            killed=seconds.get("killed"),
            repaired=seconds.get("repaired"),
            again=seconds.get("again"),
            said=_said(self.repaired) if self.repaired is not None else "",
        )


@dataclass
class Lab:
    """Makes clusters below ``directory``; ``tell`` takes a line of progress."""

    directory: Path
    control_planes: int
    workers: int
    tell: Callable[[str], None]
    _made: int = field(default=0, init=False)

    def record(self, path: Path) -> None:
        """Write to ``path`` what an apply of a new cluster changes.

        :raises LabError: that apply failed.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._cluster() as cluster:
            whole = cluster.directory / "recording.jsonl"
            ended = _apply(cluster, {"KUBEWRIGHT_CHAOS_RECORD": str(whole)})
            if ended.status != 0 or not whole.exists():
                raise LabError(f"the apply to record failed: {ended.stdout}\n{ended.stderr}")
            self.tell(f"recorded: {_said(ended)}")
            beside = path.with_name(f"{path.name}.new")
            shutil.copyfile(whole, beside)
            beside.replace(path)

    def attempt(self, kill: Kill, keep: Callable[[Outcome], None], evidence: Path) -> None:
        """Kill an apply of a new cluster, repair it, look at it, and hand over the outcome.

        ``evidence`` is a directory for what helps to understand a failure.

        :raises LabError: the cluster can't be removed.
        """
        applies = _Applies()
        with self._cluster() as cluster:
            try:
                self._kill_and_repair(cluster, kill, applies)
                outcome = applies.outcome(kill)
            except NotReached as error:
                outcome = replace(applies.outcome(kill), verdict="not reached", why=str(error))
            except Exception as error:
                # Whatever it is: the point has not passed, and the others are still to be tested.
                applies.trace = traceback.format_exc()
                known = isinstance(error, AssertionError | CommandFailed)
                why = str(error) if known else repr(error)
                outcome = replace(applies.outcome(kill), verdict="failed", why=why)
            keep(outcome)
            shutil.rmtree(evidence, ignore_errors=True)
            if outcome.why:
                _keep_evidence(cluster, applies, outcome, evidence)
                self.tell(f"kept in {evidence}: logs, and the nodes' journals")

    def _kill_and_repair(self, cluster: Cluster, kill: Kill, applies: _Applies) -> None:
        applies.killed, report = killed_apply(cluster, kill)
        run = killed_run(applies.killed, report)
        self.tell(f"killed after {applies.killed.seconds:.0f} s")
        repair_begun = api.now()
        applies.repaired = cluster.apply()
        self.tell(f"repair: {_said(applies.repaired)}")
        checks.repaired(applies.repaired, run)
        again_begun = api.now()
        applies.again = cluster.apply()
        self.tell(f"again: {_said(applies.again)}")
        checks.changes_nothing(applies.again, cluster.nodes)
        settled = repair_begun + checks.probed(applies.repaired)
        checks.whole(cluster, run, settled, again_begun)

    @contextmanager
    def _cluster(self) -> Iterator[Cluster]:
        """A cluster's file with a state of its own; no machine is there before, and none after."""
        self._made += 1
        made = Cluster(NAME, self.directory / str(self._made), self.control_planes, self.workers)
        made.write()
        made.clear_away()
        try:
            yield made
        finally:
            _destroy(made)


def killed_apply(cluster: Cluster, kill: Kill) -> tuple[Ended, Path]:
    """Run an ``apply`` that is killed there; return how it ended, and the killer's report."""
    return _killed(cluster, kill, "apply")


def killed_reset(cluster: Cluster, kill: Kill) -> tuple[Ended, Path]:
    """Run a ``reset`` of the point's host that is killed there, as `killed_apply`."""
    return _killed(cluster, kill, "reset", "--node", kill.host)


def _killed(cluster: Cluster, kill: Kill, *words: str) -> tuple[Ended, Path]:
    report = cluster.directory / "killed.json"
    report.unlink(missing_ok=True)
    return _run(cluster, {"KUBEWRIGHT_CHAOS_KILL": kill.order(str(report))}, *words), report


def _apply(cluster: Cluster, variables: dict[str, str]) -> Ended:
    """Run ``apply`` with the callback plugin and these variables to its end."""
    return _run(cluster, variables, "apply")


def _run(cluster: Cluster, variables: dict[str, str], *words: str) -> Ended:
    command = [str(COMMAND), *words, "--yes", "-o", "json"]
    environment = {**cluster.environment(), **_PLUGIN, **variables}
    return Running(command, cluster.directory, environment).ended(APPLY_LIMIT)


def _destroy(cluster: Cluster) -> None:
    ended = cluster.destroy()
    if ended.status != 0:
        raise LabError(f"the cluster can't be destroyed: {ended.stdout}\n{ended.stderr}")


def killed_run(ended: Ended, report: Path) -> str:
    """Return the id of the run that was killed, or raise NotReached."""
    if ended.status != -signal.SIGKILL or not report.exists():
        log = Path(f"{report}.log")
        killer = log.read_text(errors="replace").strip() if log.exists() else "never started"
        raise NotReached(
            f"apply ended with status {ended.status} and was not killed; points that are no longer "
            "those of an apply are written anew by `make chaos-points`; "
            f"killer: {killer or 'silent'}\n{ended.stdout}\n{ended.stderr}"
        )
    return str(json.loads(report.read_text())["run"])


def _said(ended: Ended) -> str:
    """Return in words what an apply told as JSON."""
    try:
        answer = ended.document
        tasks = answer["host_tasks"]
    except (ValueError, KeyError):
        return f"exit status {ended.status} without an answer"
    total = sum(tasks[kind] for kind in ("ok", "changed", "failed", "unreachable"))
    told = f"{answer['status']}, {tasks['changed']} of {total} host-tasks changed something"
    failures = [f"{entry['host']}: {entry['task']}" for entry in answer["failures"]]
    return "; ".join([told, *failures])


def _keep_evidence(cluster: Cluster, applies: _Applies, outcome: Outcome, place: Path) -> None:
    """Keep what was said, the runs' logs and the nodes' journals before the cluster goes."""
    place.mkdir(parents=True)
    (place / "why.txt").write_text(f"{outcome.why}\n\n{applies.trace}")
    for name, ended in applies.each().items():
        text = f"exit status {ended.status}\n{ended.stdout}\n{ended.stderr}"
        (place / f"{name}.txt").write_text(text)
    if (cluster.state / "runs").is_dir():
        shutil.copytree(cluster.state / "runs", place / "runs")
    command = ["journalctl", "--no-pager", f"--lines={_JOURNAL_LINES}"]
    for node in cluster.nodes:
        try:
            text = run_on(node, command)
        except (CommandFailed, subprocess.TimeoutExpired) as error:
            text = f"no journal: {error}\n"
        (place / f"{node}.journal").write_text(text)
