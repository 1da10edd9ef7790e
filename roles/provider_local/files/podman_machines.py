# SPDX-License-Identifier: Apache-2.0
"""The local provider's machines: podman containers of this host, found by their labels.

Usage:
    podman_machines.py list    CLUSTER [--claim] [--public-key FILE]
    podman_machines.py prepare CLUSTER --cache DIR --subnet-pool CIDR [--avoid CIDR ...]
                               --loop-devices N MACHINE ...
    podman_machines.py settle  CLUSTER --machine NAME
    podman_machines.py delete  CLUSTER [--machine NAME]

CLUSTER is --cluster NAME [--id ID ...], the present id last: see `podman`, which knows what is
whose. What is of another cluster with the same name is never touched.

Prints one JSON document. Runs as root with the standard library alone. Exit code 1 with a sentence
on stderr when something is wrong.

A container carries all that has to be known of it as labels, because podman tells an address only
while the container runs. Its public host key is read out of its /var: this host's file system is a
channel that nobody on the network can speak on, and it works while the machine is off.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import ipaddress
import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import addresses
import podman
import remains
from podman import ALIVE, LABEL, PREFIX, Cluster, Container, MachineError

# include/uapi/linux/loop.h
LOOP_CTL_ADD = 0x4C80
LOOP_MAJOR = 7
LOOP_CONTROL = Path("/dev/loop-control")


# --- list --------------------------------------------------------------------------------------


def list_machines(cluster: Cluster, public_key: Path | None, claims: bool) -> dict[str, Any]:
    """The entries of machines.json, and whom the cluster has claimed just now."""
    found = podman.containers(cluster.name)
    cluster.require_own({container.name: container.owner for container in found})
    claimed = podman.claim(cluster, found) if claims else []
    key = podman.read(public_key) if public_key else None
    return {"machines": [as_machine(item, key) for item in found], "claimed": claimed}


def as_machine(container: Container, public_key: str | None) -> dict[str, Any]:
    """The entry of machines.json. A machine that does not let `public_key` in gives no host key.

    Without a host key it counts as unfinished, so the next `create` lets the key in.
    """
    admitted = public_key is None or container.authorized_key == public_key
    key = container.host_key
    return {
        "id": f"local://{container.cluster}/{container.machine}",
        "name": container.machine,
        "address": container.address,
        "host_keys": [key] if key and admitted else [],
        "provider": "local",
        "region": "local",
        "zone": "local-1",
        "node_type": "container",
        "power": "on" if container.is_alive else "off",
    }


# --- prepare -----------------------------------------------------------------------------------


def remove_remains(cluster: Cluster, wanted: Sequence[str]) -> list[Container]:
    """Clear away what interrupted runs left in the way of `wanted`; return what stays.

    A volume without a container goes too: a machine that is made anew begins with an empty /var.
    """
    remains.wait_for_podman({PREFIX + machine for machine in wanted})
    entries = podman.entries("--external")
    known = podman.parse_containers(entries, remains.living())
    ours = [container for container in known if container.cluster == cluster.name]
    podman.require_own(cluster, ours)
    stay = [container for container in ours if not container.is_half_made]
    names = {PREFIX + machine for machine in wanted} - {container.name for container in stay}
    for container in known:
        if container.name in names and container.cluster != cluster.name:
            raise MachineError(
                f"The container {container.name} belongs to the cluster {container.cluster}. "
                "Give this cluster or its pool another name."
            )
    podman.tell(ours)
    doomed = [entry["Id"] for entry in entries if not names.isdisjoint(entry["Names"] or [])]
    doomed += [item.id for item in ours if item.is_half_made and item.id not in doomed]
    for identity in [*doomed, *(item.id for item in stay if not item.is_alive)]:
        remains.sweep(identity)
    for item in stay:
        if item.state == "initialized":  # podman waits for what the sweep has ended
            podman.run("container", "cleanup", item.id)
    if doomed:
        podman.run("rm", "--force", "--time=0", *doomed)
    remains.end_orphan_namespaces()
    podman.run("volume", "prune", "--force", "--filter", f"label={LABEL}cluster={cluster.name}")
    return stay


def ensure_loop_devices(count: int) -> None:
    """Make /dev/loop0 up to `count`: a container sees those that exist when it is made."""
    with LOOP_CONTROL.open("rb") as control:
        for number in range(count):
            node = Path(f"/dev/loop{number}")
            try:
                fcntl.ioctl(control, LOOP_CTL_ADD, number)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
            if not node.exists():  # devtmpfs makes it, another /dev does not
                os.mknod(node, 0o660 | stat.S_IFBLK, os.makedev(LOOP_MAJOR, number))


def routed_networks() -> list[str]:
    """Where this host has routes to, the default route apart."""
    command = ["ip", "-json", "-4", "route", "show", "table", "all"]
    routes = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return [route["dst"] for route in routes if route["dst"] != "default"]


def ensure_network(cluster: Cluster, pool: str, avoid: Sequence[str]) -> tuple[str, str, str]:
    """The cluster's network: its name, subnet and gateway (the address of this host in it).

    It is internal: netavark then sets up no firewall rule at all. Nodes reach each other and this
    host, and nothing else. Podman itself picks no gateway for such a network, and without one this
    host has no address in it; so the subnet is picked here, and podman refuses one that is taken.
    """
    name = PREFIX + cluster.name
    for network in json.loads(podman.run("network", "ls", "--format=json")):
        if network["name"] == name:
            subnet = network["subnets"][0]
            return name, subnet["subnet"], subnet["gateway"]
    for candidate in addresses.free_subnets(pool, [*avoid, *routed_networks()]):
        gateway = str(ipaddress.IPv4Network(candidate)[1])
        try:
            podman.run(
                *("network", "create", "--internal", "--disable-dns"),
                *(f"--label={key}={value}" for key, value in cluster.labels().items()),
                f"--subnet={candidate}",
                f"--ip-range={addresses.leases(candidate)}",
                f"--gateway={gateway}",
                name,
            )
        except MachineError as error:
            if "already used" not in str(error):
                raise
        else:
            return name, candidate, gateway
    raise MachineError(
        f"No /24 network is free in {pool}. Set provider_local_subnet_pool to another network."
    )


def prepare(cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    """What the machines share, and what has to be decided in one place: who gets which address.

    Returns the image's name, the network's name and gateway, the labels that tell whose all of it
    is, and of each machine that does not exist yet its address and where its /var lies.
    """
    stay = remove_remains(cluster, options.machines)
    ensure_loop_devices(options.loop_devices)
    script = Path(__file__).with_name("machine_image.sh")
    image = subprocess.run(
        ["bash", script, options.cache], stdout=subprocess.PIPE, text=True, check=False
    )
    if image.returncode:
        raise MachineError(f"{script} failed, see above.")
    network, subnet, gateway = ensure_network(cluster, options.subnet_pool, options.avoid)
    missing = [name for name in options.machines if name not in {item.machine for item in stay}]
    placed = addresses.place(missing, (item.address for item in stay), subnet)
    volumes = {machine: f"{PREFIX}{machine}-var" for machine in missing}
    for machine, volume in volumes.items():
        labels = {**cluster.labels(), LABEL + "machine": machine}
        given = (f"--label={key}={value}" for key, value in labels.items())
        podman.run("volume", "create", *given, volume)
    made = json.loads(podman.run("volume", "inspect", *volumes.values())) if volumes else []
    mountpoints = {volume["Name"]: volume["Mountpoint"] for volume in made}
    machines = {
        machine: {"address": placed[machine], "volume": volume, "var": mountpoints[volume]}
        for machine, volume in volumes.items()
    }
    return {
        "image": image.stdout.strip(),
        "network": network,
        "gateway": gateway,
        "prefix_length": ipaddress.IPv4Network(subnet).prefixlen,
        "labels": cluster.labels(),
        "machines": machines,
    }


# --- settle ------------------------------------------------------------------------------------


def settle(cluster: Cluster, machine: str) -> dict[str, Any]:
    """Before its power changes: refuse another cluster's; let podman know what it has missed."""
    found = [item for item in podman.containers(cluster.name) if item.machine == machine]
    cluster.require_own({container.name: container.owner for container in found})
    changed = podman.tell(found)
    for container in found:
        if container.is_lost:
            remains.sweep(container.id)
    return {"changed": changed}


# --- delete ------------------------------------------------------------------------------------


def delete(cluster: Cluster, machine: str | None) -> dict[str, Any]:
    """Remove one machine, or everything that the cluster has here; what is gone already is fine."""
    volumes = [
        item["Name"]
        for item in podman.volumes(cluster)
        if machine in (None, podman.labels(item).get(LABEL + "machine"))
    ]
    remains.wait_for_podman({name.removesuffix("-var") for name in volumes})
    entries = podman.entries("--external")
    known = podman.parse_containers(entries, remains.living())
    ours = [container for container in known if container.cluster == cluster.name]
    podman.require_own(cluster, ours)
    doomed = [entry for entry in entries if belongs(entry, cluster, machine)]
    lost = {item.id for item in ours if item.is_lost}
    for entry in doomed:
        if entry.get("State") not in ALIVE or entry["Id"] in lost:
            remains.sweep(entry["Id"])
    podman.tell(item for item in ours if item.id in {entry["Id"] for entry in doomed})
    if doomed:
        podman.run("rm", "--force", "--ignore", "--time=0", *(entry["Id"] for entry in doomed))
    remains.end_orphan_namespaces()
    if volumes:
        podman.run("volume", "rm", "--force", *volumes)
    networks = [] if machine else podman.networks(cluster)
    for network in networks:
        podman.run("network", "rm", "--force", network["name"])
        remains.remove_bridge(network["network_interface"])
    if not machine:
        remains.release_namespace_directory()
    return {"changed": bool(doomed or volumes or networks)}


def belongs(entry: Mapping[str, Any], cluster: Cluster, machine: str | None) -> bool:
    """Whether an entry of `podman ps` is of the cluster, or of its one `machine`.

    By its labels; what has none is a remainder, and known by its name.
    """
    labels = podman.labels(entry)
    if labels:
        return cluster.has_name(entry) and machine in (None, labels.get(LABEL + "machine"))
    names = entry["Names"] or []
    if machine:
        return PREFIX + machine in names
    return any(name.startswith(f"{PREFIX}{cluster.name}-") for name in names)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, as the module's docstring describes it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "prepare", "settle", "delete"):
        command = commands.add_parser(name)
        command.add_argument("--cluster", required=True)
        command.add_argument("--id", action="append", default=[], dest="ids")
        if name == "list":
            command.add_argument("--public-key", type=Path)
            command.add_argument("--claim", action="store_true")
        if name == "prepare":
            command.add_argument("--cache", type=Path, required=True)
            command.add_argument("--subnet-pool", required=True)
            command.add_argument("--avoid", action="append", default=[])
            command.add_argument("--loop-devices", type=int, required=True)
            command.add_argument("machines", nargs="+")
        if name in ("settle", "delete"):
            command.add_argument("--machine", required=name == "settle")
    return parser.parse_args(arguments)


def main() -> int:
    """Run one command."""
    options = parse_arguments()
    cluster = Cluster(options.cluster, tuple(options.ids))
    try:
        if options.command == "list":
            result = list_machines(cluster, options.public_key, options.claim)
        elif options.command == "prepare":
            result = prepare(cluster, options)
        elif options.command == "settle":
            result = settle(cluster, options.machine)
        else:
            result = delete(cluster, options.machine)
    except subprocess.CalledProcessError as error:
        print(f"{error} {(error.stderr or b'').strip()!r}", file=sys.stderr)
        return 1
    except (MachineError, addresses.AddressError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
