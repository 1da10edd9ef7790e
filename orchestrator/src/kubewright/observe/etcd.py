# SPDX-License-Identifier: Apache-2.0
"""etcd's members and leader, over its JSON gateway.

Paths and fields: https://etcd.io/docs/latest/dev-guide/api_grpc_gateway/. Numbers of 64 bits
come as text, and what is false, zero or empty is left out.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubewright.observe.direct import NoAnswer, request
from kubewright.observe.model import Etcd, EtcdMember
from kubewright.spec.machines import Machine

PORT = 2379
SECONDS = 3.0


@dataclass(frozen=True)
class Answer:
    """What one machine's etcd said: its status and its list of members, or why it said nothing."""

    host: str
    address: str
    status: Mapping[str, Any] | None = None
    members: Sequence[Mapping[str, Any]] = ()
    reason: str = ""


async def ask(
    machines: Sequence[Machine],
    context: ssl.SSLContext,
    *,
    seconds: float = SECONDS,
    port: int = PORT,
) -> Etcd:
    """Ask each machine's etcd, all at once. ``context`` identifies with etcd's own authority."""
    asked = (_ask(machine, context, seconds, port) for machine in machines)
    return combine(await asyncio.gather(*asked))


async def _ask(machine: Machine, context: ssl.SSLContext, seconds: float, port: int) -> Answer:
    async def post(path: str, body: bytes) -> Mapping[str, Any]:
        status, content = await request(
            machine.address, port, path, context, seconds=seconds, body=body
        )
        if status != 200:
            raise NoAnswer(f"it answers with HTTP status {status}")
        try:
            data = json.loads(content)
        except ValueError as error:
            raise NoAnswer("it does not answer with JSON") from error
        return data if isinstance(data, dict) else {}

    try:
        # Not linearizable: a member that has lost the others still tells whom it knows.
        status, listed = await asyncio.gather(
            post("/v3/maintenance/status", b"{}"),
            post("/v3/cluster/member/list", b'{"linearizable": false}'),
        )
    except NoAnswer as error:
        return Answer(machine.name, machine.address, reason=str(error))
    return Answer(machine.name, machine.address, status, tuple(listed.get("members", ())))


def combine(answers: Sequence[Answer]) -> Etcd:
    """Return what several members' answers say together. Pure.

    The list of members is taken from one that knows a leader, else from any that answered.
    """
    heard = [answer for answer in answers if answer.status is not None]
    if not heard:
        reasons = "; ".join(f"{answer.host}: {answer.reason}" for answer in answers)
        return Etcd(reason=reasons or "no control plane is known")
    informed = next((answer for answer in heard if _leader(answer)), heard[0])
    by_id = {_number(answer.status, "header", "member_id"): answer for answer in heard}
    by_address = {answer.address: answer for answer in answers}
    members = []
    for listed in informed.members:
        number = int(listed.get("ID", 0))
        address = _address(listed)
        answer = by_id.get(number) or by_address.get(address)
        members.append(_member(number, listed, address, answer))
    return Etcd(tuple(sorted(members, key=lambda member: member.host or member.id)))


def _member(
    number: int, listed: Mapping[str, Any], address: str, answer: Answer | None
) -> EtcdMember:
    status = answer.status if answer else None
    leader = _leader(answer) if answer else 0
    reason = answer.reason if answer else "it runs on no machine of the cluster"
    if status is not None:
        reason = "" if leader else "it has no leader"
        reason = "; ".join(filter(None, [reason, *status.get("errors", ())]))
    return EtcdMember(
        id=f"{number:x}",
        host=str(listed.get("name") or (answer.host if answer else "")),
        address=answer.address if answer else address,
        healthy=status is not None and not reason,
        leader=leader != 0 and leader == number,
        learner=bool(listed.get("isLearner", False)),
        version=str(status.get("version", "")) if status else "",
        db_bytes=int(status.get("dbSize", 0)) if status else 0,
        reason=reason,
    )


def _leader(answer: Answer) -> int:
    return int((answer.status or {}).get("leader", 0))


def _number(data: Mapping[str, Any] | None, outer: str, inner: str) -> int:
    return int(((data or {}).get(outer) or {}).get(inner, 0))


def _address(listed: Mapping[str, Any]) -> str:
    """Return the host of a member's first peer URL, ``https://10.89.0.11:2380``."""
    urls = listed.get("peerURLs") or [""]
    return str(urls[0]).partition("://")[2].rpartition(":")[0].strip("[]")
