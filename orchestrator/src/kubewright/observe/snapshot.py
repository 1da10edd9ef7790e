# SPDX-License-Identifier: Apache-2.0
"""One reading of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from kubewright.locations import ClusterPaths
from kubewright.observe import control_plane, etcd, expiry, nodes, reports
from kubewright.observe.credentials import (
    CredentialsError,
    client_trust,
    pointed_at,
    read_kubeconfig,
    server_trust,
)
from kubewright.observe.model import ApiServer, Etcd, Node, Snapshot
from kubewright.spec import Spec, roster
from kubewright.spec.machines import Machine, Machines, read
from kubewright.spec.names import api_name


def control_plane_machines(spec: Spec, machines: Machines) -> list[Machine]:
    """Return the machines of the control planes, in their order, then of those that are leaving."""
    known = machines.by_name()
    return [known[name] for name in roster.of(spec, machines).planes if name in known]


def api_servers(spec: Spec, paths: ClusterPaths) -> tuple[ApiServer, ...]:
    """Ask the API servers of the machines that are known; none when the cluster is not made yet.

    :raises kubewright.spec.machines.MachinesError: machines.json can't be used.
    :raises CredentialsError: the cluster's authority is not there or damaged.
    """
    machines = control_plane_machines(spec, read(paths.machines, spec.name))
    return asyncio.run(_api_servers(spec, paths, machines))


def nodes_now(spec: Spec, paths: ClusterPaths) -> tuple[Node, ...] | None:
    """Read the Nodes alone; None where no API server tells them.

    :raises kubewright.spec.machines.MachinesError: machines.json can't be used.
    """
    machines = control_plane_machines(spec, read(paths.machines, spec.name))
    return asyncio.run(_api(spec, paths, machines, datetime.now(UTC)))[1]


def take(spec: Spec, paths: ClusterPaths) -> Snapshot:
    """Read machines, API servers, etcd and nodes, and what the nodes say of themselves.

    What can't be read has a reason instead.

    :raises kubewright.spec.machines.MachinesError: machines.json can't be used.
    """
    return asyncio.run(_take(spec, paths))


async def _take(spec: Spec, paths: ClusterPaths) -> Snapshot:
    listed = read(paths.machines, spec.name)
    machines = control_plane_machines(spec, listed)
    hosts = roster.of(spec, listed).hosts
    expected = [machine for machine in listed.machines if machine.name in hosts]
    now = datetime.now(UTC)
    (servers, found, reason), members = await asyncio.gather(
        _api(spec, paths, machines, now), _etcd(machines, paths.pki / "etcd")
    )
    return Snapshot(
        cluster=spec.name,
        taken_at=now,
        api_servers=servers,
        etcd=members,
        nodes=found,
        nodes_reason=reason,
        machines=listed.machines,
        machines_at=listed.written_at,
        kept=listed.kept,
        reports=await reports.ask(spec, paths, expected, found or ()),
        state=expiry.of_state(paths, now),
    )


async def _api(
    spec: Spec, paths: ClusterPaths, machines: Sequence[Machine], now: datetime
) -> tuple[tuple[ApiServer, ...], tuple[Node, ...] | None, str]:
    """Ask the API servers, and one that lives for the nodes: these, or why there are none."""
    try:
        servers = await _api_servers(spec, paths, machines)
    except CredentialsError as error:
        return (), None, str(error)
    return servers, *await _nodes(spec, paths, servers, now)


async def _api_servers(
    spec: Spec, paths: ClusterPaths, machines: Sequence[Machine]
) -> tuple[ApiServer, ...]:
    if not machines:
        return ()
    trust = server_trust(paths.pki / "ca.crt")
    return await control_plane.living_control_plane(machines, trust, api_name(spec.name))


async def _etcd(machines: Sequence[Machine], authority: Path) -> Etcd:
    if not machines:
        return Etcd(reason="no control plane is known")
    try:
        context = client_trust(authority / "ca.crt", authority / "ca.key", "kubewright-observe")
    except CredentialsError as error:
        return Etcd(reason=str(error))
    return await etcd.ask(machines, context)


async def _nodes(
    spec: Spec, paths: ClusterPaths, servers: Sequence[ApiServer], now: datetime
) -> tuple[tuple[Node, ...] | None, str]:
    """Read the nodes from the first API server that can tell them."""
    ends = expiry.administrator_ends(paths.kubeconfig)
    if ends is not None and ends <= now:
        return None, "the administrator's certificate has expired"
    reason = "no API server is ready"
    for server in (server for server in servers if server.ready):
        url = f"https://{server.address}:{control_plane.PORT}"
        try:
            kubeconfig = pointed_at(read_kubeconfig(paths.kubeconfig), url, api_name(spec.name))
            return await nodes.read(kubeconfig), ""
        except (CredentialsError, nodes.NodesError) as error:
            reason = str(error)
    return None, reason
