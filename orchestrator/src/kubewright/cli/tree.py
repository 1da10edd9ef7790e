# SPDX-License-Identifier: Apache-2.0
"""A snapshot as a tree: control plane, pool by pool, and what the file does not have. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rich.text import Text
from rich.tree import Tree

from kubewright.observe.model import Etcd, Node, Snapshot
from kubewright.spec.models import Spec


def tree(spec: Spec, version: str, snapshot: Snapshot) -> Tree:
    """Return the tree of a cluster."""
    own = spec.own_hosts()
    age = _age(snapshot, own=len(own) == spec.machine_count)
    root = Tree(Text(f"{spec.name}  Kubernetes {version}  {age}", style="bold"))
    members = snapshot.roster(spec)
    hosts = members.control_planes
    ready = len(snapshot.ready_api_servers)
    title = f"control plane  {ready} of {len(hosts)} API servers ready, {_etcd(snapshot.etcd)}"
    _branch(root, title, hosts, snapshot, own)
    for pool in spec.pools:
        hosts = members.pools[pool.name]
        ready = sum(node.ready for node in snapshot.nodes or () if node.name in hosts)
        known = f"{ready} of {len(hosts)} ready" if snapshot.nodes is not None else "not known"
        _branch(root, f"pool {pool.name}  {known}", hosts, snapshot, own)
    others = _others(spec, snapshot)
    if others:
        _branch(root, "not in the file", others, snapshot, own)
    return root


def _others(spec: Spec, snapshot: Snapshot) -> list[str]:
    names = {node.name for node in snapshot.nodes or ()}
    names |= {machine.name for machine in snapshot.machines}
    return sorted(names - set(snapshot.roster(spec).hosts))


def _branch(
    root: Tree, title: str, hosts: Iterable[str], snapshot: Snapshot, own: Collection[str]
) -> None:
    branch = root.add(Text(title))
    for host in hosts:
        branch.add(_line(host, snapshot, own=host in own))


def _line(host: str, snapshot: Snapshot, *, own: bool) -> Text:
    """Return a host: its node, its API server, its member of etcd, its machine."""
    line = Text(host)
    node = next((node for node in snapshot.nodes or () if node.name == host), None)
    if snapshot.nodes is not None or node is not None:
        _add_node(line, node)
    for server in snapshot.api_servers:
        if server.host == host:
            _add(line, "API ready" if server.ready else f"API {server.reason}", server.ready)
    for member in snapshot.etcd.members:
        if member.host == host:
            kind = "leader" if member.leader else "learner" if member.learner else "member"
            word = f"etcd {kind}" if member.healthy else f"etcd {member.reason}"
            _add(line, word, member.healthy)
    for report in (found for found in snapshot.reports if found.host == host):
        failed = (finding.section for finding in report.findings if not finding.warning)
        for section in dict.fromkeys(failed):
            _add(line, f"{section} failed", False)
        if report.reason and report.prepared:
            _add(line, "state not known", False)
        elif report.reason:
            line.append(f"  {report.reason}", style="dim")
    machine = next((found for found in snapshot.machines if found.name == host), None)
    if machine is None:
        _add(line, "not checked yet" if own else "no machine", False)
    else:
        if not own:  # nothing here knows whether a machine of one's own has power
            _add(line, f"power {machine.power}", machine.power == "on")
        line.append(f"  {machine.address}", style="dim")
    return line


def _add_node(line: Text, node: Node | None) -> None:
    if node is None:
        _add(line, "no node", False)
        return
    _add(line, "Ready" if node.ready else "NotReady", node.ready)
    if node.cordoned:
        _add(line, "cordoned", False)
    line.append(f"  {node.version}")
    for condition in node.conditions:
        if condition.type != "Ready" and condition.status == "True":
            _add(line, condition.type, False)


def _add(line: Text, words: str, good: bool) -> None:
    line.append("  ")
    line.append(words, style="green" if good else "red")


def _etcd(etcd: Etcd) -> str:
    if not etcd.members:
        return "etcd unknown"
    quorum = f"can lose {etcd.spare} more" if etcd.quorum else "no quorum"
    return f"etcd {etcd.healthy_voters} of {etcd.voters} healthy ({quorum})"


def _age(snapshot: Snapshot, *, own: bool) -> str:
    """Return how old the knowledge of the machines is: their providers are not asked here."""
    if snapshot.machines_at is None:
        return "(machines not checked yet)" if own else "(no machines yet)"
    minutes = max(0, int((snapshot.taken_at - snapshot.machines_at).total_seconds() // 60))
    if minutes >= 48 * 60:
        age = f"{minutes // (24 * 60)} days"
    else:
        age = f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"
    return f"(machines as of {age} ago)"
