# SPDX-License-Identifier: Apache-2.0
"""What the command tells of a cluster that lives."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import urlsplit

import etcd
import yaml
from cluster import POOL, VERSION, Cluster
from kube import Kube


def test_tree_has_every_part_and_its_state(cluster: Cluster) -> None:
    page = cluster.run("status").succeeded().stdout
    assert "3 of 3 API servers ready" in page
    assert "etcd 3 of 3 healthy" in page
    assert f"pool {POOL}  2 of 2 ready" in page
    lines = {word: line for line in page.splitlines() for word in line.split()}
    for name in cluster.nodes:
        assert f"v{VERSION}" in lines[name], page
        assert "Ready" in lines[name].split(), page
        assert "power on" in lines[name], page
    leader = etcd.look(cluster.control_planes[0]).leader
    leading = [name for name in cluster.control_planes if "etcd leader" in lines[name]]
    assert leading == [leader], page


def test_json_has_the_same(cluster: Cluster) -> None:
    answer = cluster.run("status", "-o", "json").succeeded().document
    assert answer["healthy"] is True
    assert answer["troubles"] == []
    assert answer["kubernetes"] == VERSION
    assert {entry["host"] for entry in answer["api_servers"] if entry["ready"]} == set(
        cluster.control_planes
    )
    assert answer["etcd"]["healthy_voters"] == answer["etcd"]["voters"] == 3
    leaders = [member["host"] for member in answer["etcd"]["members"] if member["leader"]]
    assert leaders == [etcd.look(cluster.control_planes[0]).leader]
    nodes = {node["name"]: node for node in answer["nodes"]}
    assert set(nodes) == set(cluster.nodes)
    for name, node in nodes.items():
        assert node["ready"] is True
        assert node["version"] == f"v{VERSION}"
        assert node["pool"] == ("" if name in cluster.control_planes else POOL)
        assert {"type", "status", "reason", "message"} <= set(node["conditions"][0])
    assert {machine["name"] for machine in answer["machines"]} == set(cluster.nodes)


def test_kubeconfig_names_a_control_plane_and_the_shared_name(cluster: Cluster, kube: Kube) -> None:
    addresses = {cluster.addresses[name] for name in cluster.control_planes}
    assert urlsplit(kube.entry["server"]).hostname in addresses
    assert kube.entry["tls-server-name"] == cluster.api_name
    assert len(kube.core.list_node(_request_timeout=5).items) == len(cluster.nodes)


def test_kubeconfig_goes_to_stdout_alone(cluster: Cluster) -> None:
    before = _files(cluster.directory)
    ended = cluster.run("kubeconfig").succeeded()
    assert ended.stderr == ""
    assert yaml.safe_load(ended.stdout)["kind"] == "Config"
    assert _files(cluster.directory) == before
    kept = cluster.state / "kubeconfig"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def _files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
