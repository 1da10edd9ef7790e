# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Run a module on a node, and give up where the node does not answer.

The module ends itself when it hangs, see ``module_utils/_base/limits``. Whoever can't, because the
kernel does not let it, or because the machine or its sshd stands still while the connection stays,
is not waited for: to the play it is a host that can't be reached, and all others go on.

Each call of a module has that limit. One that only waits for the node's lock comes back soon and
says so, and is made again for as long as ``lock_timeout`` says. Meanwhile it is told whom it waits
for.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.module_utils._base import limits
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import refusals
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.refusals import Refusal

#: What begins a line that a running task says. The command reads it.
SAYS = "kubewright"


class NodeAction(ActionBase):  # type: ignore[misc]
    """A module of this collection that works on nodes. A subclass may do more in `ask`."""

    # Also of those that send an image, straight to the volume: Ansible would make a directory for
    # files, before the node has recorded what was there before.
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    @property
    def module(self) -> str:
        """The module's name, without the collection's."""
        return str(self._task.resolved_action or self._task.action).rpartition(".")[2]

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        arguments = {key: value for key, value in self._task.args.items() if value is not None}
        self.prepare(arguments, task_vars or {})
        with _ends_within(self.seconds(arguments)) as self._begin_again:
            result = self.ask(arguments, task_vars or {})
        if result.get("hung"):
            raise AnsibleConnectionFailure(result["msg"])
        if result.pop("foreseen", False):
            # Without it Ansible takes the failure for this action's own: so it is told, by Ansible
            # and by the command, also where ``no_log`` hides the result.
            result.pop("exception", None)
            host = str((task_vars or {}).get("inventory_hostname") or "")
            refusals.tell(Refusal(str(result.get("msg")), host, str(self._task._uuid)))
        return result

    def prepare(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> None:
        """Complete what the module is given, before any time runs."""

    def seconds(self, arguments: dict[str, Any]) -> float:
        """How long the node has, the wait for its lock apart."""
        return limits.on_controller(self.module, arguments)

    def ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Give the module's result, once it has the lock."""
        if self.module in limits.LOCKLESS:
            return self._call(arguments, task_vars)
        end = time.monotonic() + limits.lock_timeout(arguments)
        told = ""
        while True:
            left = max(0.0, end - time.monotonic())
            turn = {**arguments, "lock_timeout": math.ceil(min(left, limits.LOCK_TURN))}
            result = self._call(turn, task_vars)
            holder = result.pop("busy", "")
            if not holder or time.monotonic() >= end:
                return result
            if holder != told:  # it may go on for minutes: a kubeadm that a killed run has left
                told = holder
                self.say(f"waits until {holder} of another run exits", task_vars)
            self._begin_again()

    def say(self, text: str, task_vars: dict[str, Any]) -> None:
        """Tell people at once what the host of this task does: "waits for ..."."""
        host = task_vars.get("inventory_hostname", "")
        self._display.display(f"{SAYS}: {host}: {text}")

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            result: dict[str, Any] = self._execute_module(
                module_name=f"kubewright.cluster.{self.module}",
                module_args=arguments,
                task_vars=task_vars,
            )
        except AnsibleConnectionFailure as error:
            # Where ssh gives up while the module is still written to it, Ansible tells of the pipe
            # and not what ssh says. A command without input has nothing to write: it is told why.
            if isinstance(error.__cause__, BrokenPipeError):
                self._low_level_execute_command(":")
            raise
        return result


class _NoAnswer(BaseException):
    """Time is over. No exception that a connection might handle and go on."""


@contextlib.contextmanager
def _ends_within(seconds: float) -> Iterator[Callable[[], None]]:
    """Raise `AnsibleConnectionFailure` where the body takes longer, and end this task's ssh.

    Gives what lets the time begin again.
    """
    if signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:
        yield lambda: None  # the task has a ``timeout`` of its own, which Ansible sees to
        return

    def begin() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def over(_signum: int, _frame: FrameType | None) -> None:
        raise _NoAnswer

    signal.signal(signal.SIGALRM, over)
    try:
        begin()
        yield begin
    except _NoAnswer:
        _end_children()
        raise AnsibleConnectionFailure(limits.hung(seconds)) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _end_children() -> None:
    """End what this worker of Ansible has started, which would wait on."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The second field is the name in parentheses; the second one behind it the parent.
            if int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGKILL)
