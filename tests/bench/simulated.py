# SPDX-License-Identifier: Apache-2.0
"""A cluster that is not there, of any size: its spec, its machines, what its nodes answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from kubewright.locations import ClusterPaths
from kubewright.spec import Spec
from kubewright.spec.images import SystemImage
from kubewright.spec.inventory import Inventory, build
from kubewright.spec.loading import check
from kubewright.spec.machines import Machine, Machines
from kubewright.spec.rules import Surroundings

NAME = "kwplan"
VERSION = "1.37.2"
CONTROL_PLANES = 3
POOL_SIZE = 100
#: Room for 1,024 nodes, apart from the services' 10.96.0.0/16.
POD_CIDR = "10.128.0.0/14"
#: One node in so many answers that a role drifted.
DRIFTED = 10

_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
_STATE = Path("/nonexistent/kubewright")
_IMAGES = {
    role: SystemImage(digest * 64, Path("/nonexistent") / f"{digest * 64}.squashfs")
    for role, digest in (("control_plane", "a"), ("worker", "b"))
}


def text(nodes: int) -> str:
    """Return cluster.yml for so many nodes: three control planes, and pools of at most 100."""
    workers = nodes - CONTROL_PLANES
    sizes = [min(POOL_SIZE, workers - taken) for taken in range(0, workers, POOL_SIZE)]
    document = {
        "plugin": "kubewright.cluster.spec",
        "name": NAME,
        "version": VERSION,
        "control_plane": {"provider": "local", "size": CONTROL_PLANES},
        "pools": [
            {"name": f"pool-{number}", "provider": "local", "size": size}
            for number, size in enumerate(sizes, 1)
        ],
        "pod_cidr": POD_CIDR,
    }
    return yaml.safe_dump(document, sort_keys=False)


def spec(document: str) -> Spec:
    """Return the checked spec of a text. Its version is a patch release: none is looked up."""
    return check(document, Path("cluster.yml"), Surroundings(providers=["local"]))


def inventory(wanted: Spec, machines: Machines) -> Inventory:
    """Return the inventory, with system images that nobody reads."""
    paths = ClusterPaths(_STATE / NAME)
    return build(wanted, version=VERSION, paths=paths, machines=machines, images=_IMAGES)


def machines(names: Iterable[str]) -> Machines:
    """Return a machine for each name, as a provider would list it."""
    return Machines(
        NAME,
        machines=tuple(
            Machine(
                id=f"local://{name}",
                name=name,
                address=f"10.80.{number // 250}.{number % 250 + 1}",
                host_keys=(_KEY,),
                provider="local",
                region="here",
                zone=f"here-{number % 3 + 1}",
                node_type="container",
                power="on",
            )
            for number, name in enumerate(names)
        ),
    )


def answers(known: Inventory) -> dict[str, dict[str, Any]]:
    """Return what ``node_state`` returns of each host: joined, and one in ten drifted."""
    return {
        name: {
            "drift": _drift(number),
            "unknown": [],
            "machine": {"architecture": "x86_64", "cgroup": 2, "systemd": True, "root": True},
            "membership": {
                "phase": "joined",
                "operation": "join",
                "role": variables["kubewright_role"],
                "cluster_id": "3f0c",
            },
            "node": {"ready": True, "unschedulable": False, "kubelet": f"v{VERSION}"},
            "certificates": {"due": False, "serves": True, "list": []},
            "api_ready": variables["kubewright_role"] == "control_plane",
            "fence": {"epoch": 1, "run": "bench"},
        }
        for number, (name, variables) in enumerate(known.hosts.items())
    }


def _drift(number: int) -> dict[str, list[str]]:
    if number % DRIFTED:
        return {}
    return {"container_runtime": ["/etc/kubewright/containerd/config.toml has other content"]}
