# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""How the kubelet of this node is, and why it died.

A kubelet that its settings kill is started by systemd for ever, and for minutes its Node stays
Ready. So three have to agree before it counts as well: systemd, which has not started it again, the
kubelet's own ``/healthz``, and the API, to which it has reported since its start.

Sources: kubelet.go, kubelet_node_status.go of Kubernetes 1.37 (what ends a kubelet, what it reports
at its start); klog's format of lines and of values.
"""

from __future__ import annotations

import datetime
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import (
    kubelet_died,
    trial_node,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemd

UNIT = kubelet_died.UNIT
FLAGS = Path("/var/lib/kubelet/kubeadm-flags.env")
FLAGS_VARIABLE = "KUBELET_KUBEADM_ARGS"
HOSTNAME = "kubernetes.io/hostname"
UNREGISTERED = "the kubelet has not registered with its Node"
CALL_SECONDS = 30.0
#: Where no API server answers, being healthy for so long has to do.
SETTLED_SECONDS = 20.0
POLL = 0.5
#: How long a kubelet may take after its start until it answers.
STARTING_SECONDS = 30.0
#: A healthy kubelet answers in milliseconds.
ANSWER_SECONDS = 2.0


def journal(run: commands.Runner, since: float) -> str:
    """The kubelet's lines, and systemd's about it, since *since* (seconds since 1970)."""
    command = ["journalctl", f"--unit={UNIT}", f"--since=@{since:.6f}"]
    return run([*command, "--no-pager", "--output=cat"], timeout=CALL_SECONDS).stdout


def loop(
    run: commands.Runner,
    unit: systemd.Unit,
    now: float,
    now_monotonic: int,
    since: float = 0.0,
) -> str:
    """Why a kubelet that systemd starts again and again does not stay up; "" where it does.

    *now* in seconds since 1970, *now_monotonic* in microseconds. What was before *since* does not
    count.
    """
    up = (now_monotonic - unit.left_inactive_monotonic) / 10**6
    if not kubelet_died.may_loop(unit.restarts, unit.active, up):
        return ""
    return kubelet_died.loop(journal(run, max(now - kubelet_died.LOOP_SECONDS, since)))


def silent(unit: systemd.Unit, now_monotonic: int) -> str:
    """Why a kubelet that runs does not answer, or is not healthy by its own word; else "".

    *now_monotonic* in microseconds. One that was just started has some time.
    """
    up = (now_monotonic - unit.left_inactive_monotonic) / 10**6
    if unit.active not in systemd.RUNNING or up < STARTING_SECONDS:
        return ""
    return trial_node.kubelet_trouble(ANSWER_SECONDS)


def unit_of(run: commands.Runner) -> systemd.Unit:
    """The kubelet's unit."""
    result = run([*systemd.SHOW, UNIT], timeout=CALL_SECONDS)
    commands.check(result, "Asking systemd about the kubelet failed")
    return systemd.parse_show(result.stdout, [UNIT])[UNIT]


def flag(name: str) -> str | None:
    """The value of one of the flags that kubeadm wrote, None where it is not there."""
    return flag_in(FLAGS.read_text("utf-8"), name) if FLAGS.exists() else None


def flag_in(text: str, name: str) -> str | None:
    """The same in the text of that file."""
    words = _flags(text)
    found = [word.split("=", 1)[1] for word in words if word.startswith(f"--{name}=")]
    return found[-1] if found else None


def with_flag(text: str, name: str, value: str) -> str:
    """The text of kubeadm's file of flags with another value of one; the rest stays."""
    words = [word for word in _flags(text) if not word.startswith(f"--{name}=")]
    joined = " ".join([*words, f"--{name}={value}"])
    others = [line for line in text.splitlines() if not line.startswith(f"{FLAGS_VARIABLE}=")]
    return "".join(f"{line}\n" for line in [*others, f'{FLAGS_VARIABLE}="{joined}"'])


def _flags(text: str) -> list[str]:
    for line in text.splitlines():
        if line.startswith(f"{FLAGS_VARIABLE}="):
            value = line.split("=", 1)[1]
            return (shlex.split(value) or [""])[0].split() if value else []
    return []


@dataclass(frozen=True)
class Sight:
    """What the API says of this node's Node. `ready` is None where it did not answer.

    `registered`: whether the kubelet has registered with this Node. It does so once, at its start.
    """

    ready: bool | None = None
    registered: bool = True
    reported: float = 0.0
    renewed: float = 0.0
    why: str = ""

    def since(self, start: float) -> bool:
        """Whether the kubelet has reported since *start*; its reports are told in whole seconds."""
        return self.reported >= int(start) and self.renewed >= start


@dataclass
class Watch:
    """Watches a kubelet after its start. *name*: its Node, "" where the API is not to be asked.

    *seconds*: the limit. The clocks can be replaced.
    """

    run: commands.Runner
    name: str = ""
    api_servers: Sequence[str] = ()
    api_name: str = ""
    seconds: float = 120.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    healthy: Callable[[], str] = field(default=trial_node.kubelet_trouble)

    def trouble(self, was_ready: bool) -> str:
        """Why the kubelet that was just started is not well; "" as soon as it is.

        *was_ready*: whether its Node was Ready before, so that it has to be again. A Node that
        was not has other reasons.
        """
        first = unit_of(self.run)
        start = first.left_inactive / 10**6
        end, well_since = self.clock() + self.seconds, None
        while True:
            unit = unit_of(self.run)
            if (
                unit.active == "failed"
                or unit.restarts - first.restarts >= kubelet_died.LOOP_RESTARTS
            ):
                return kubelet_died.reason(journal(self.run, start)) or "it exits without a reason"
            missing = self._missing(unit, was_ready)
            now = self.clock()
            if missing is None:  # all that can be known is well
                well_since = now if well_since is None else well_since
                if now - well_since >= SETTLED_SECONDS:
                    return ""
            elif missing:
                well_since = None
            else:
                return ""
            if now >= end:
                return f"after {self.seconds:g} s {missing or 'it has not stayed up'}"
            self.sleep(POLL)

    def _missing(self, unit: systemd.Unit, was_ready: bool) -> str | None:
        """What it still lacks; "" for nothing, None for nothing that is known."""
        if unit.active not in systemd.RUNNING:
            return f"{UNIT} is {unit.active} ({unit.sub})"
        if trouble := self.healthy():
            return trouble
        seen = self.see()
        if seen.ready is None:
            return None
        if not seen.since(unit.left_inactive / 10**6):
            return f"it has not reported to the API since its start ({seen.why or 'no report'})"
        return f"its Node is not Ready: {seen.why}" if was_ready and not seen.ready else ""

    def see(self) -> Sight:
        """What the API says now, asked as the kubelet."""
        if not (self.name and self.api_servers):
            return Sight()
        try:
            with client.as_kubelet(self.api_servers, self.api_name) as api:
                node, lease = (
                    api.get(client.node_path(self.name)),
                    api.get(client.lease_path(self.name)),
                )
        except (client.ApiUnreachable, client.ApiError):
            return Sight()
        return sight(node, lease)


def sight(node: Mapping[str, Any] | None, lease: Mapping[str, Any] | None) -> Sight:
    """What a Node and its Lease say of the kubelet. Pure."""
    conditions = ((node or {}).get("status") or {}).get("conditions") or []
    ready: Mapping[str, Any] = next((one for one in conditions if one["type"] == "Ready"), {})
    spec = (lease or {}).get("spec") or {}
    return Sight(
        ready=ready.get("status") == "True",
        registered=registered(node),
        reported=stamp(ready.get("lastHeartbeatTime")),
        renewed=stamp(spec.get("renewTime")),
        why=ready.get("message", "") if node else "the Node does not exist",
    )


def registered(node: Mapping[str, Any] | None) -> bool:
    """Whether the kubelet has registered with this Node: it gives it labels of its own then."""
    return bool(node) and HOSTNAME in ((node or {})["metadata"].get("labels") or {})


def stamp(text: str | None) -> float:
    """A time of the API (2026-11-29T12:00:00.123456Z) in seconds since 1970; 0 for none."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0
