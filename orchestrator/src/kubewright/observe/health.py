# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a cluster, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kubewright.observe.model import Finding, Report, Snapshot
from kubewright.spec.models import Spec

#: What a finding is of, by its section, where that isn't the node as a whole.
_WHOSE = {"volume": "the system volume of {}"}
#: Conditions of a node that are bad when they are true (Kubernetes, "Node Status").
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


def troubles(
    spec: Spec, snapshot: Snapshot, remedy: Callable[[str], str] = lambda reason: ""
) -> tuple[str, ...]:
    """Return what keeps the cluster from being healthy, one sentence each; none: it is healthy.

    Healthy: every host of the spec has a machine that is on and a ready node without pressure,
    every control plane a ready API server, every member of etcd is healthy with a leader, and every
    machine that is on answers over SSH and finds nothing wrong with itself; no certificate has
    expired.
    ``remedy`` gives why and what to do about a machine that gave this reason, or nothing.
    """
    return (
        *_machines(spec, snapshot),
        *_api_servers(snapshot),
        *_etcd(spec, snapshot),
        *_nodes(spec, snapshot),
        *(_said("", finding) for finding in snapshot.state if not finding.warning),
        *(trouble for report in snapshot.reports for trouble in _report(report, remedy)),
    )


def warnings(snapshot: Snapshot) -> tuple[str, ...]:
    """Return what will keep the cluster from being healthy if nobody does anything about it."""
    return (
        *(_said("", finding) for finding in snapshot.state if finding.warning),
        *(
            _said(report.host, finding)
            for report in snapshot.reports
            for finding in report.findings
            if finding.warning
        ),
    )


def _machines(spec: Spec, snapshot: Snapshot) -> list[str]:
    own = spec.own_hosts()
    if not snapshot.machines:
        unseen = "your own machines were not checked yet: run 'kubewright plan'"
        none = "no machines yet: run 'kubewright apply'"
        return ([none] if len(own) < spec.machine_count else []) + ([unseen] if own else [])
    power = {machine.name: machine.power for machine in snapshot.machines}
    found = _moved(spec, snapshot)
    for host in snapshot.roster(spec).hosts:
        if host not in power:
            found.append(f"{host} has no machine")
        elif power[host] != "on":
            found.append(
                f"the machine {host} was {power[host]} when its provider was "
                "last queried; 'kubewright apply' powers it on"
            )
    return found


def _moved(spec: Spec, snapshot: Snapshot) -> list[str]:
    """Return which of one's own machines were asked at another address than the spec has now."""
    asked = {machine.name: machine.address for machine in snapshot.machines}
    return [
        f"{node.name} was checked at {asked[node.name]}, but has the address {node.address} "
        "in cluster.yml now: run 'kubewright plan' to check it there"
        for node in spec.own_nodes()
        if asked.get(node.name, node.address) != node.address
    ]


def _report(report: Report, remedy: Callable[[str], str]) -> list[str]:
    found = [_said(report.host, one) for one in report.findings if not one.warning]
    if report.reason and report.prepared:
        words = remedy(report.said or report.reason) or report.remedy
        asked = f"{report.host} can't be checked over SSH: {report.reason}"
        found.append(f"{asked.rstrip('.')}. {words}" if words else asked)
    return found


def _said(host: str, finding: Finding) -> str:
    """Return a finding as a sentence. ``host``: where it was found, empty for here."""
    whose = f"{_WHOSE.get(finding.section, '{}').format(host)}: " if host else ""
    return " ".join(filter(None, [f"{whose}{finding.text}", finding.remedy]))


def _api_servers(snapshot: Snapshot) -> list[str]:
    return [
        f"the API server of {server.host} ({server.address}): {server.reason}"
        for server in snapshot.api_servers
        if not server.ready
    ]


def _etcd(spec: Spec, snapshot: Snapshot) -> list[str]:
    etcd = snapshot.etcd
    if not etcd.members:
        return [f"etcd can't be queried: {etcd.reason}"] if etcd.reason else []
    found = [
        f"etcd's member on {member.host or member.address}: {member.reason}"
        for member in etcd.members
        if not member.healthy
    ]
    found += [
        f"etcd's member on {member.host} is still a learner"
        for member in etcd.members
        if member.learner
    ]
    # A control plane that is leaving has a member until it goes.
    most = max(spec.control_plane.count, len(snapshot.roster(spec).planes))
    if not spec.control_plane.count <= len(etcd.members) <= most:
        found.append(f"etcd has {len(etcd.members)} of {spec.control_plane.count} members")
    if not etcd.quorum:
        found.append(
            f"etcd has no quorum: {etcd.healthy_voters} of {etcd.voters} voters are healthy"
        )
    return found


def _nodes(spec: Spec, snapshot: Snapshot) -> list[str]:
    if snapshot.nodes is None:
        return [f"the nodes can't be read: {snapshot.nodes_reason}"] if snapshot.machines else []
    nodes = {node.name: node for node in snapshot.nodes}
    addresses = {machine.name: machine.address for machine in snapshot.machines}
    found = []
    for host in snapshot.roster(spec).hosts:
        node = nodes.get(host)
        if node is None:
            found.append(f"{host} is not a node of the cluster: 'kubewright apply' adds it")
            continue
        # The kubelet was told that of its machine when it joined.
        if node.address and addresses.get(host, node.address) != node.address:
            found.append(
                f"the node {host} has the address {node.address}, "
                f"but its machine has {addresses[host]}: see 'kubewright plan'"
            )
        if not node.ready:
            found.append(f"the node {host} is not ready: {node.reason}")
        found += [
            f"the node {host} has {condition.type}: {condition.message}"
            for condition in node.conditions
            if condition.type in _PRESSURES and condition.status == "True"
        ]
    return found
