# SPDX-License-Identifier: Apache-2.0
"""What nodes say of their own system volumes: each is asked over SSH, as the last way that is left.

A node whose volume failed has no kubelet that could tell the API.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence

from kubewright.locations import ClusterPaths
from kubewright.observe.model import Volume
from kubewright.spec import Spec
from kubewright.spec.connection import command
from kubewright.spec.machines import Machine

UNIT = "/etc/systemd/system/kubewright-volume-ready.service"
#: The unit names the node's own script, and the Python that the node runs it in. Says nothing on a
#: machine that was never prepared.
ASK = f"test ! -e {UNIT} || exec $(sed -n 's/^ExecStart=\\(.*\\) volume$/\\1/p' {UNIT}) report"
#: Around the answer: a shell's profile may print before it and after it.
MARK = "kubewright-answer"
MARKED = f"echo {MARK}; ({ASK}); status=$?; echo {MARK}; exit $status"
#: A node answers in half a second; one without power never does.
SECONDS = 10.0
#: ssh's own status when it does not get there; others are those of the command (ssh(1)).
UNREACHED = 255
#: For a node's script that is missing, damaged or can't run.
REMEDY = "'kubewright apply' puts back what is missing there."
#: So many ssh at once.
AT_ONCE = 32


def ask(
    spec: Spec, paths: ClusterPaths, machines: Sequence[Machine], *, seconds: float = SECONDS
) -> tuple[Volume, ...]:
    """Ask the machines of the spec that are on; what can't be asked has a reason instead.

    Takes ``seconds`` for every AT_ONCE machines at most, however many are dead.
    """
    ssh = {one.name: command(spec, one, paths, MARKED) for one in machines if one.power == "on"}
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask_one(host: str) -> Volume:
        async with gate:
            return await _ask(host, ssh[host], seconds)

    async def ask_all() -> tuple[Volume, ...]:
        return tuple(await asyncio.gather(*(ask_one(host) for host in ssh)))

    return asyncio.run(ask_all())


async def _ask(host: str, argv: Sequence[str], seconds: float) -> Volume:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Volume(host, reason=f"{argv[0]}: {error.strerror}")
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        # Its whole group: who is left of it would keep the pipes open, and so the wait.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return Volume(host, reason=f"no answer within {seconds:g} s")
    if process.returncode:
        said = err.decode(errors="replace").strip().splitlines()
        reason = _shown(said[-1]) if said else f"status {process.returncode}"
        remedy = "" if process.returncode == UNREACHED else REMEDY
        return Volume(host, reason=reason, remedy=remedy)
    return _volume(host, out)


def _volume(host: str, said: bytes) -> Volume:
    _, began, rest = said.partition(f"{MARK}\n".encode())
    answer, ended, _ = rest.partition(f"{MARK}\n".encode())
    if not began or not ended:
        return Volume(host, reason="it did not answer to the end", remedy=REMEDY)
    if not answer.strip():
        return Volume(host, reason="it has none yet", prepared=False)
    try:
        told = json.loads(answer)
        return Volume(host, tuple(_shown(one) for one in told))
    except (ValueError, TypeError):
        return Volume(host, reason="what it answers is no list of sentences", remedy=REMEDY)


def _shown(text: str) -> str:
    """Text of a machine without what a terminal would obey."""
    return "".join(one if one.isprintable() else " " for one in text)
