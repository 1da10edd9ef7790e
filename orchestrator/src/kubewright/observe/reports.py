# SPDX-License-Identifier: Apache-2.0
"""What nodes say of themselves: each is asked over SSH once, as the last way that is left.

A node whose volume failed has no kubelet that could tell the API, and whether traffic flows through
a node is known nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from kubewright.locations import ClusterPaths
from kubewright.observe.model import Finding, Node, Report
from kubewright.spec import Spec, roster
from kubewright.spec.connection import command
from kubewright.spec.machines import Machine, Machines
from kubewright.spec.names import api_name

UNIT = "/etc/systemd/system/kubewright-volume-ready.service"
#: The unit names the Python that the node runs its scripts in, and where they lie. Says nothing on
#: a machine that was never prepared. What runs there leaves nothing behind.
ASK = (
    f"test ! -e {UNIT} || PYTHONDONTWRITEBYTECODE=1 exec "
    f"$(sed -n 's/^ExecStart=\\(.*\\)guard\\.py volume$/\\1report.py/p' {UNIT})"
)
#: Around the answer: a shell's profile may print before it and after it.
MARK = "kubewright-answer"
MARKED = f"echo {MARK}; ({ASK}); status=$?; echo {MARK}; exit $status"
#: A node answers in half a second, and in three where much does not answer it; one without power
#: never does.
SECONDS = 10.0
#: ssh's own status when it does not get there; others are those of the command (ssh(1)).
UNREACHED = 255
#: For a node's script that is missing, damaged or can't run.
REMEDY = "Run 'kubewright apply' to restore what is missing there."
#: So many ssh at once.
AT_ONCE = 32


def request(
    spec: Spec, machine: Machine, machines: Sequence[Machine], nodes: Sequence[Node]
) -> dict[str, Any]:
    """Return what a node needs to look at its traffic (the collection's `_onnode.traffic.Request`).

    Others are asked only where they are Ready: that one is not is said already. Nor does a machine
    that has no Node among ``nodes`` ask: the others keep no way to its pods. Where no Node is
    known each asks what it can.
    """
    if nodes and machine.name not in {node.name for node in nodes}:
        return {}
    addresses = {one.name: one.address for one in machines}
    planes = roster.of(spec, Machines(spec.name, None, tuple(machines))).control_planes
    ready = [node.name for node in nodes if node.ready and node.name in addresses]
    return {
        "traffic": {
            "name": machine.name,
            "address": machine.address,
            "nodes": {name: addresses[name] for name in ready},
            "servers": {name: addresses[name] for name in planes if name in addresses},
            "api_name": api_name(spec.name),
            "service_cidr": spec.service_cidr,
        }
    }


async def ask(
    spec: Spec,
    paths: ClusterPaths,
    machines: Sequence[Machine],
    nodes: Sequence[Node],
    *,
    seconds: float = SECONDS,
) -> tuple[Report, ...]:
    """Ask the machines of the spec that are on; what can't be asked has a reason instead.

    Takes ``seconds`` for every AT_ONCE machines at most, however many are dead.
    """
    living = [machine for machine in machines if machine.power == "on"]
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask_one(machine: Machine) -> Report:
        async with gate:
            question = json.dumps(request(spec, machine, living, nodes)).encode()
            argv = command(spec, machine, paths, MARKED)
            return await _ask(machine.name, argv, question, seconds)

    return tuple(await asyncio.gather(*(ask_one(machine) for machine in living)))


async def _ask(host: str, argv: Sequence[str], question: bytes, seconds: float) -> Report:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Report(host, reason=f"{argv[0]}: {error.strerror}")
    try:
        out, err = await asyncio.wait_for(process.communicate(question), seconds)
    except TimeoutError:
        # Its whole group: who is left of it would keep the pipes open, and so the wait.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return Report(host, reason=f"no answer within {seconds:g} s")
    if process.returncode:
        lines = [_shown(line) for line in err.decode(errors="replace").strip().splitlines()]
        reason = lines[-1] if lines else f"status {process.returncode}"
        remedy = "" if process.returncode == UNREACHED else REMEDY
        # ssh's last line is the same for a key that is unknown, that has changed, and for a
        # certificate that has expired.
        return Report(
            host, reason=reason, remedy=remedy, said="\n".join(lines) if lines[1:] else ""
        )
    return report(host, out)


def report(host: str, said: bytes) -> Report:
    """Return what a node answered: a list of findings by section, in JSON. Pure."""
    _, began, rest = said.partition(f"{MARK}\n".encode())
    answer, ended, _ = rest.partition(f"{MARK}\n".encode())
    if not began or not ended:
        return Report(host, reason="its answer was cut off", remedy=REMEDY)
    if not answer.strip():
        return Report(host, reason="not prepared yet", prepared=False)
    try:
        told = json.loads(answer)
        found = tuple(_finding(name, one) for name, listed in told.items() for one in listed)
        return Report(host, found)
    except (AttributeError, KeyError, ValueError, TypeError):
        return Report(host, reason="its answer is not a list of findings", remedy=REMEDY)


def _finding(section: str, told: Mapping[str, Any]) -> Finding:
    warning = bool(told.get("warning", False))
    return Finding(_shown(section), _shown(told["text"]), _shown(told["remedy"]), warning)


def _shown(text: str) -> str:
    """Text of a machine without what a terminal would obey."""
    return "".join(one if one.isprintable() else " " for one in text)
