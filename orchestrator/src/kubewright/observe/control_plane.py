# SPDX-License-Identifier: Apache-2.0
"""Which API servers live: each is asked at its own address, all at once."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Sequence

from kubewright.observe.direct import NoAnswer, request
from kubewright.observe.model import ApiServer
from kubewright.spec.machines import Machine

PORT = 6443
#: A healthy API server answers in milliseconds; one that waits for etcd takes seconds.
SECONDS = 3.0


async def living_control_plane(
    machines: Sequence[Machine],
    context: ssl.SSLContext,
    server_name: str,
    *,
    seconds: float = SECONDS,
    port: int = PORT,
) -> tuple[ApiServer, ...]:
    """Ask each machine's API server whether it is ready, in the order of the machines.

    ``context`` trusts the cluster's authority, ``server_name`` is the name in all certificates.
    Takes ``seconds`` at most, however many are dead.
    """
    asked = (_ask(machine, context, server_name, seconds, port) for machine in machines)
    return tuple(await asyncio.gather(*asked))


async def _ask(
    machine: Machine, context: ssl.SSLContext, server_name: str, seconds: float, port: int
) -> ApiServer:
    begun = time.monotonic()
    try:
        status, body = await request(
            machine.address, port, "/readyz", context, seconds=seconds, server_name=server_name
        )
        reason = "" if status == 200 else _reason(status, body)
    except NoAnswer as error:
        reason = str(error)
    return ApiServer(
        machine.name, machine.address, not reason, reason, round(time.monotonic() - begun, 3)
    )


def _reason(status: int, body: bytes) -> str:
    """Name the checks that failed, which the API server lists as ``[-]etcd failed: ...``."""
    failed = re.findall(r"^\[-\](\S+) failed", body.decode(errors="replace"), re.MULTILINE)
    return f"not ready: {', '.join(failed)}" if failed else f"not ready (HTTP status {status})"
