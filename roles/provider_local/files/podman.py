# SPDX-License-Identifier: Apache-2.0
"""This host's containers, volumes and networks that are a cluster's, as podman lists them.

They carry labels: the cluster's name and its id, and of a machine its own name, its address and
where its /var lies on this host. A name alone is nobody's: two people call theirs demo. Podman
adds no label to what is there, so what was made before there were ids is claimed by a file in the
machine's /var instead.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import remains

LABEL = "kubewright."
PREFIX = "kubewright-"
# Below a machine's /var.
PLACE = "lib/kubewright-machine"
CLAIM = f"{PLACE}/cluster_id"
# Podman's words for a container with live processes, and for one that has had some.
ALIVE = ("running", "paused", "stopping")
HAS_RUN = (*ALIVE, "stopped", "exited")
ENDED = "exited"
# Of many things so many are named: a sentence is to be read.
SHOWN = 3


class MachineError(Exception):
    """What went wrong, and what to do."""


@dataclass(frozen=True)
class Cluster:
    """Whose things are meant: the name, and the ids that it has had, the present one last."""

    name: str
    ids: tuple[str, ...] = ()

    def labels(self) -> dict[str, str]:
        """What a thing has that is made for it."""
        named = {LABEL + "cluster": self.name}
        return {**named, LABEL + "cluster_id": self.ids[-1]} if self.ids else named

    def has_name(self, thing: Mapping[str, Any]) -> bool:
        """Whether podman's entry of a container, volume or network is of a cluster so called."""
        return labels(thing).get(LABEL + "cluster") == self.name

    def require_own(self, owners: Mapping[str, str]) -> None:
        """Refuse things of another cluster with this name: `owners` has the id of each, or ""."""
        others = {thing: owner for thing, owner in owners.items() if owner}
        for known in self.ids:
            others = {thing: owner for thing, owner in others.items() if owner != known}
        if not others:
            return
        owner = min(others.values())
        theirs = sorted(thing for thing in others if others[thing] == owner)
        more = f" and {len(theirs) - SHOWN} more" if len(theirs) > SHOWN else ""
        raise MachineError(
            f"Another cluster that is also called {self.name} (id {owner}) has these objects here: "
            f"{', '.join(theirs[:SHOWN])}{more}. Nothing was changed. Give this cluster another "
            "name. If the other one is yours and its state was lost, `kubewright destroy "
            f"--cluster-id {owner}` removes what it has here (kubewright.cluster.destroy: -e "
            f"kubewright_confirm_destroy={owner})."
        )


@dataclass(frozen=True)
class Container:
    """One machine as podman knows it. `var` is where its /var lies on this host.

    `is_lost`: podman says that it is alive, and its first process is gone: whoever was to tell
    podman of its end (conmon) was killed.
    """

    id: str
    name: str
    machine: str
    cluster: str
    address: str
    var: Path
    state: str
    label: str = ""
    is_lost: bool = False

    @property
    def owner(self) -> str:
        """The id of the cluster that it is of; empty where nobody has claimed it."""
        return self.label or read(self.var / CLAIM)

    @property
    def host_key(self) -> str:
        """Its public SSH host key; empty when SSH has never answered in it."""
        return read(self.var / PLACE / "host_key")

    @property
    def authorized_key(self) -> str:
        """The SSH key that it lets in, beside those that its user added."""
        return read(self.var / PLACE / "authorized_keys")

    @property
    def is_alive(self) -> bool:
        """Whether it has power; a paused one has."""
        return self.state in ALIVE

    @property
    def is_half_made(self) -> bool:
        """Whether it has never run: whoever was making it was interrupted."""
        return self.state not in HAS_RUN and not self.host_key


def read(path: Path) -> str:
    """The stripped text of a small file; empty when there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def run(*arguments: str) -> str:
    """Run podman and return its standard output."""
    result = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise MachineError(f"podman {arguments[0]} {arguments[1]}: {result.stderr.strip()}")
    return result.stdout


def labels(thing: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels in podman's entry of a container, volume or network."""
    return thing.get("Labels") or thing.get("labels") or {}


def entries(*options: str) -> list[dict[str, Any]]:
    """All containers as `podman ps` lists them. --external: also what only its storage knows."""
    listed = run("ps", "--all", "--no-trunc", "--format=json", *options)
    found: list[dict[str, Any]] = json.loads(listed)
    return found


def parse_containers(
    found: Iterable[Mapping[str, Any]], living: Iterable[str] | None = None
) -> list[Container]:
    """Containers with our labels out of `entries`, sorted by machine.

    `living`: the ids of those whose first process is there; None believes podman.
    """
    known = None if living is None else set(living)
    containers = []
    for entry in found:
        said = labels(entry)
        if LABEL + "machine" in said:
            lost = known is not None and entry["State"] in ALIVE and entry["Id"] not in known
            containers.append(
                Container(
                    id=entry["Id"],
                    name=entry["Names"][0],
                    machine=said[LABEL + "machine"],
                    cluster=said[LABEL + "cluster"],
                    address=said[LABEL + "address"],
                    var=Path(said[LABEL + "var"]),
                    state=ENDED if lost else entry["State"],
                    label=said.get(LABEL + "cluster_id", ""),
                    is_lost=lost,
                )
            )
    return sorted(containers, key=lambda container: container.machine)


def containers(cluster: str) -> list[Container]:
    """The containers of all clusters with this name."""
    found = entries("--filter", f"label={LABEL}cluster={cluster}")
    return parse_containers(found, remains.living() if found else ())


def volumes(cluster: Cluster) -> list[dict[str, Any]]:
    """The volumes of all clusters with this name."""
    return _listing("volume", cluster)


def networks(cluster: Cluster) -> list[dict[str, Any]]:
    """The networks of all clusters with this name."""
    return _listing("network", cluster)


def _listing(kind: str, cluster: Cluster) -> list[dict[str, Any]]:
    return [item for item in json.loads(run(kind, "ls", "--format=json")) if cluster.has_name(item)]


def require_own(cluster: Cluster, own: Iterable[Container]) -> None:
    """Refuse where anything on this host is of another cluster with the name; `own`: its machines.

    :raises MachineError: it says what is whose, and what to do.
    """
    owners = {container.name: container.owner for container in own}
    for volume in volumes(cluster):
        label = labels(volume).get(LABEL + "cluster_id", "")
        owners[f"volume {volume['Name']}"] = label or read(Path(volume["Mountpoint"]) / CLAIM)
    for network in networks(cluster):
        owners[f"network {network['name']}"] = labels(network).get(LABEL + "cluster_id", "")
    cluster.require_own(owners)


def claim(cluster: Cluster, own: Iterable[Container]) -> list[str]:
    """Mark machines that nobody has claimed as this cluster's; gives their names."""
    claimed = []
    for container in own if cluster.ids else ():
        if not container.owner:
            path = container.var / CLAIM
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f"{path.name}.new")
            beside.write_text(f"{cluster.ids[-1]}\n", encoding="ascii")
            beside.replace(path)
            claimed.append(container.machine)
    return claimed


def tell(lost: Iterable[Container]) -> bool:
    """Let podman know of machines that have ended; whether there were any."""
    known = [container.id for container in lost if container.is_lost]
    for identity in known:
        remains.tell_ended(identity)
    return bool(known)
