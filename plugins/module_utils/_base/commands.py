# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Commands on a node, with a time limit and the node lock.

`Runner` is the protocol that tests replace; `SystemRunner` is the real one. The lock's file
descriptor goes to every command, so that the lock is held until the last of them has ended even
when the module that started it is killed.

Commands have an environment of their own: what /etc/environment or a shell's profile sets there, a
proxy or a KUBECONFIG, is for the machine's users.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ansible_collections.kubewright.cluster.plugins.module_utils._base import flock
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

# What a host lacks is in the system image; a reset keeps it beside its records while the image
# goes. Not below /run, which may be mounted noexec; from /var/lib pods' programs run as well.
IMAGE_TOOLS = "/opt/kubewright/tools"
KEPT_TOOLS = "/var/lib/kubewright/tools"
ADMIN_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"
    f"{IMAGE_TOOLS}/run:{KEPT_TOOLS}/run"
)
# All that a command inherits. A run's mark is on each process that it starts on the controller.
INHERITED = ("HOME", "KUBEWRIGHT_RUN", "PATH", "TMPDIR")
SHOWN_LINES = 15
# Whoever is killed is gone at once, unless the kernel itself waits for something.
KILL_SECONDS = 5.0
WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Result:
    """What a command did: argument list, exit status and its two texts."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.argv)


class CommandFailed(KubewrightError):
    """A command ended with an unexpected status; `result` has the details."""

    def __init__(self, doing: str, result: Result) -> None:
        said = "\n".join(
            (result.stderr.strip() or result.stdout.strip()).splitlines()[-SHOWN_LINES:]
        )
        super().__init__(
            f"{doing}: `{result.command}` ended with status {result.rc}"
            + (f" and said:\n{said}" if said else " and said nothing.")
        )
        self.result = result


class Runner(Protocol):
    """Runs one command to its end and gives the result, whatever the status."""

    def __call__(self, argv: Sequence[str], *, timeout: float = ..., stdin: str = ...) -> Result:
        """Run *argv* for at most *timeout* seconds with *stdin* as its input."""
        ...


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """A command's environment, where that of the module is *inherited*."""
    kept = {name: inherited[name] for name in INHERITED if name in inherited}
    path = f"{kept.get('PATH', '')}:{ADMIN_PATH}".lstrip(":")
    return {**kept, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "PATH": path}


class SystemRunner:
    """Real commands: C locale, an administrator's PATH, the lock's descriptors inherited."""

    def __init__(self, pass_fds: Sequence[int] = ()) -> None:
        self.pass_fds = tuple(pass_fds)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 120,
        stdin: str = "",
        watch: Callable[[], None] | None = None,
    ) -> Result:
        """See `Runner`. A command over its time is killed with its children: `KubewrightError`.

        *watch* is called each second while it runs. What it raises ends the command as well.
        """
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment(os.environ),
                pass_fds=self.pass_fds,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise KubewrightError(
                f"{argv[0]} is not installed on this machine; install the package that contains it."
            ) from error
        except OSError as error:
            raise KubewrightError(f"{argv[0]} could not be started: {error}.") from error
        try:
            stdout, stderr = _communicate(process, stdin, timeout, watch)
        except subprocess.TimeoutExpired as error:
            raise KubewrightError(
                f"`{shlex.join(argv)}` did not end within {timeout:g} s and was stopped"
                f"{'' if self._kill(process) else ', but the kernel does not let it exit'}."
            ) from error
        except BaseException:
            self._kill(process)
            raise
        return Result(tuple(argv), process.returncode, stdout, stderr)

    def _kill(self, process: subprocess.Popen[str]) -> bool:
        """End a command with all of its group, and who left that and holds the node's lock.

        Nobody waits for the pipes' end, which a process that got away may have open. False where
        one of them is not gone in time: one that waits for a disk is only when that answers.
        """
        until = time.monotonic() + KILL_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        gone = self._free_locks(until)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            process.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return gone

    def _free_locks(self, until: float) -> bool:
        """Whether nobody but this process holds the node's lock any more, by *until* at the latest.

        A signal is not yet an end, and who is about to end may just have started another.
        """
        locks = [Path(f"/proc/self/fd/{fd}").readlink() for fd in self.pass_fds]
        while others := {pid for lock in locks for pid in flock.holders(lock)} - {os.getpid()}:
            if time.monotonic() > until:
                return False
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        return True


def _communicate(
    process: subprocess.Popen[str], stdin: str, timeout: float, watch: Callable[[], None] | None
) -> tuple[str, str]:
    if watch is None:
        return process.communicate(stdin, timeout=timeout)
    end = time.monotonic() + timeout
    while True:
        left = max(0.0, end - time.monotonic())
        try:
            return process.communicate(stdin, timeout=min(WATCH_SECONDS, left))
        except subprocess.TimeoutExpired:
            if left <= WATCH_SECONDS:
                raise
        watch()
        stdin = ""  # it has been sent


def check(result: Result, doing: str) -> Result:
    """*result* when its status is 0, else `CommandFailed` that starts with *doing*."""
    if result.rc != 0:
        raise CommandFailed(doing, result)
    return result
