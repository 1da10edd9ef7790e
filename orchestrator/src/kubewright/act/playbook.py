# SPDX-License-Identifier: Apache-2.0
"""One run of ansible-playbook through ansible-runner, with its traps closed.

* Its ``command`` file holds the whole environment: removed before a task has run.
* Its event files hold module arguments and results: never written, partial ones removed.
* A slow or broken event handler would stop the run: ours hands events to a thread.
* Cancelling kills one process group at once: ours ends every process of the run, gently first.
* Nothing is put under ``env/`` but its own settings; extra variables are in the process list and
  must not be secret.
"""

from __future__ import annotations

import json
import os
import queue
import shlex
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from kubewright.act import failures, leftovers
from kubewright.act.environment import environment
from kubewright.act.events import Event, HostResult, Tally
from kubewright.act.messages import complaint, plain, system_error
from kubewright.act.refusals import FILE as REFUSALS
from kubewright.act.refusals import Refusals
from kubewright.act.result import Failure, Result
from kubewright.act.trace import Tracer
from kubewright.store.files import replace
from kubewright.store.runs import FAILURES, LOG, TRACE, keep_records

#: Seconds that a slow event handler has to catch up after the end of the run.
CATCH_UP = 5.0

#: Ansible's free strategy looks around each time it has slept for this long (s). At its default of
#: 1 ms that takes half a CPU from the start to the end of a play, the nodes' own where they share.
CONFIGURATION = "[defaults]\ninternal_poll_interval = 0.01\n"

Handler = Callable[[Event], None]


@dataclass(frozen=True)
class Order:
    """What to run. ``extra_vars`` show in the process list: nothing secret.

    ``options``: more words for ansible-playbook, such as ``--check``.
    """

    run: str
    playbook: str
    inventory: Path
    directory: Path
    extra_vars: Mapping[str, Any]
    limit: str | None = None
    options: tuple[str, ...] = ()


def run(order: Order, on_event: Handler, cancel: threading.Event) -> Result:
    """Run a playbook to its end, or until ``cancel`` is set. Never raises for what the run does.

    Nor for a log that can't be written (a full disk): the result then says why.
    """
    begun, began = time.monotonic(), datetime.now(UTC)
    with _Log(order.directory / LOG) as writer, _Relay(on_event) as relay:
        tracer = Tracer(order.run, order.playbook, began)
        recorder = _Recorder(order.directory, writer, relay, tracer)
        writer.line(f"{began:%Y-%m-%d %H:%M:%S} UTC: {order.playbook} (run {order.run})")
        try:
            with _Canceller(order.run, cancel):
                status = _ansible(order, recorder)
        except Exception as error:
            # Whatever breaks in between, the user gets a sentence, the log has the rest.
            writer.line(traceback.format_exc())
            recorder.broken = f"the run failed unexpectedly: {_reason(error, str(order.directory))}"
            status = "error"
        if cancel.is_set():
            status = "canceled"
        if status != "successful":
            leftovers.end(order.run)
        seconds = time.monotonic() - begun
        writer.line(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {status} after {seconds:.0f} s")
        _write_trace(order.directory, tracer, seconds, writer)
        found = _failures(recorder, status)
        _write_failures(order.directory, found, writer)
    keep_records(order.directory)
    return _result(order, recorder, status, seconds, writer, found)


def _write_trace(directory: Path, tracer: Tracer, seconds: float, writer: _Log) -> None:
    try:
        replace(directory / TRACE, tracer.trace(seconds).text())
    except Exception:
        # The change was made, whether or not it can be told where its time went.
        writer.line(f"{TRACE} was not written:\n{traceback.format_exc()}")


def _write_failures(directory: Path, found: tuple[Failure, ...], writer: _Log) -> None:
    try:
        failures.write(directory / FAILURES, found)
    except OSError:
        writer.line(f"{FAILURES} was not written:\n{traceback.format_exc()}")


def _failures(recorder: _Recorder, status: str) -> tuple[Failure, ...]:
    """Return why the run did not end well; where no task says so, what was said before any."""
    if status == "successful":
        return ()
    found = recorder.tally.failures()
    if found or status == "canceled":
        return found
    said = recorder.broken or recorder.refused() or complaint(recorder.tally.output)
    return (Failure("", "", said),)


def _ansible(order: Order, recorder: _Recorder) -> str:
    directory = order.directory
    (directory / "env").mkdir(mode=0o700)
    # ansible-runner takes settings from this file alone: those passed to it are lost without it.
    settings = {"suppress_output_file": True, "suppress_ansible_output": True, "pexpect_timeout": 1}
    (directory / "env" / "settings").write_text(json.dumps(settings), encoding="utf-8")
    (directory / "project").mkdir(mode=0o700)
    (directory / "tmp").mkdir(mode=0o700)
    (directory / "ansible.cfg").write_text(CONFIGURATION, encoding="utf-8")
    recorder.listen()
    variables = environment(order.run, directory)
    # Imported late: only who runs a playbook waits for it.
    import ansible_runner
    from ansible_runner.config.runner import RunnerConfig

    config = RunnerConfig(
        private_data_dir=str(directory),
        ident="run",
        playbook=order.playbook,
        inventory=str(order.inventory),
        extravars=_literal(order.extra_vars),
        limit=order.limit,
        cmdline=shlex.join(order.options) or None,
        envvars=variables,
        fact_cache_type="memory",
        suppress_env_files=True,
    )
    config.prepare()
    # shutil.which() looks in this process's PATH, not in the run's.
    config.command[0] = _program(config.command[0], variables["PATH"])
    command_file = directory / "artifacts" / "run" / "command"

    def forget_command(data: Mapping[str, Any], **_: object) -> None:
        if data["status"] == "running":
            command_file.unlink(missing_ok=True)

    runner = ansible_runner.Runner(
        config=config, event_handler=recorder.take, status_handler=forget_command
    )
    runner.run()
    return "successful" if runner.rc == 0 else "failed"


def _literal(value: Any) -> Any:
    """Return what Ansible reads as the value, and never as a template.

    It takes text of its command line for the user's own templates; in ours are names that came
    from files, nodes and providers. The mark is that of ansible-inventory's output.
    """
    if isinstance(value, Mapping):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(inner) for inner in value]
    return {"__ansible_unsafe": value} if isinstance(value, str) else value


def _program(name: str, path: str) -> str:
    for place in path.split(":"):
        candidate = Path(place) / name
        if os.access(candidate, os.X_OK):
            return str(candidate)
    raise FileNotFoundError(
        f"{name} was not found in {path}; install ansible-core next to kubewright"
    )


def _reason(error: Exception, near: str = "") -> str:
    return (isinstance(error, OSError) and system_error(error, near)) or repr(error)


def _result(
    order: Order,
    recorder: _Recorder,
    status: str,
    seconds: float,
    log: _Log,
    found: tuple[Failure, ...],
) -> Result:
    tally = recorder.tally
    return Result(
        run=order.run,
        playbook=order.playbook,
        status=status,
        changed=tally.changed,
        host_tasks=tally.host_tasks(),
        host_task_counts=dict(tally.host_counts),
        failures=found,
        seconds=seconds,
        phases=tally.phases(datetime.now(UTC)),
        log=log.path,
        log_error=_reason(log.error) if log.error else "",
        answers=dict(tally.answers),
        findings=tally.findings,
        unreachable=dict(tally.unreachable),
        changes=tuple(tally.changes),
        waves=tally.waves,
    )


class _Log:
    """The run's output as it comes, without colours; mode 0600.

    Nothing here raises when the file can't be written: a run must not break half-way for its log.
    ``error`` is then why; what comes after it is not in the log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: OSError | None = None
        self._file: TextIO | None = None

    def __enter__(self) -> _Log:
        try:
            descriptor = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            self.error = error
        else:
            self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")
        return self

    def line(self, text: str) -> None:
        """Write a text and a line's end, and let readers see it at once."""
        if self._file is None:
            return
        try:
            self._file.write(f"{plain(text)}\n")
            self._file.flush()
        except OSError as error:
            self.error = self.error or error
            self._close()

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()  # tries once more to write what is left; closed it is in any case
            except OSError as error:
                self.error = self.error or error


class _Relay:
    """Hands events to a handler in a thread of its own, in order."""

    _END = object()

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)

    def __enter__(self) -> _Relay:
        self._thread.start()
        return self

    def put(self, event: Event) -> None:
        """Queue an event; never waits."""
        self._queue.put(event)

    def __exit__(self, *_: object) -> None:
        self._queue.put(self._END)
        self._thread.join(CATCH_UP)

    def _work(self) -> None:
        while (event := self._queue.get()) is not self._END:
            try:
                self._handler(event)  # type: ignore[arg-type]
            except Exception:
                # A broken display must not stop a change half-way; the log has everything.
                return


class _Recorder:
    """Takes ansible-runner's events: to log, tally, relay, trace and the record of failures."""

    def __init__(self, directory: Path, log: _Log, relay: _Relay, tracer: Tracer) -> None:
        self.tally = Tally()
        self.broken = ""
        self._directory = directory
        self._refusals: Refusals | None = None
        self._log = log
        self._relay = relay
        self._tracer = tracer

    def listen(self) -> None:
        """Make the file into which code of ours writes what it refuses."""
        self._refusals = Refusals(self._directory / REFUSALS)

    def refused(self) -> str:
        """What code of ours has refused before any task."""
        return self._refusals.without_task() if self._refusals else ""

    def take(self, raw: Mapping[str, Any]) -> bool:
        """Take one event. False: ansible-runner writes no file for it."""
        try:
            text = str(raw.get("stdout") or "")
            if text:
                self._log.line(text)
            if self._refusals is not None:
                raw = self._refusals.put_in(raw)
            event = self.tally.feed(raw)
            if event is not None:
                self._relay.put(event)
            if isinstance(event, HostResult) and event.message and not event.ignored:
                failure = Failure(event.host, event.task, event.message)
                failures.add(self._directory / FAILURES, failure)
            self._tracer.feed(raw)
        except Exception:
            self._log.line(traceback.format_exc())
        return False


class _Canceller:
    """Ends the run's processes when asked to; the run then ends by itself."""

    def __init__(self, run: str, cancel: threading.Event) -> None:
        self._run = run
        self._cancel = cancel
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cancel", daemon=True)

    def __enter__(self) -> _Canceller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            if self._cancel.is_set():
                try:
                    leftovers.end(self._run)
                except leftovers.LeftoverError:
                    return  # told by the run's own end, which tries again
