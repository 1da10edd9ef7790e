# SPDX-License-Identifier: Apache-2.0
"""The local provider's machines: podman containers of this host, found by their labels.

Usage:
    podman_machines.py list    --cluster NAME [--public-key FILE]
    podman_machines.py prepare --cluster NAME --cache DIR --subnet-pool CIDR [--avoid CIDR ...]
                               --loop-devices N MACHINE ...
    podman_machines.py delete  --cluster NAME [--machine NAME]

Prints one JSON document. Runs as root with the standard library alone. Exit code 1 with a sentence
on stderr when something is wrong.

A container carries all that has to be known of it as labels (cluster, machine, address, where its
/var lies on this host), because podman tells an address only while the container runs. Its public
host key is read out of that volume: this host's file system is a channel that nobody on the network
can speak on, and it works while the machine is off.
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import addresses
import remains

LABEL = "kubewright."
PREFIX = "kubewright-"
# Podman's words for a container with live processes, and for one that has had some.
ALIVE = ("running", "paused", "stopping")
HAS_RUN = (*ALIVE, "stopped", "exited")
# include/uapi/linux/loop.h
LOOP_CTL_ADD = 0x4C80
LOOP_MAJOR = 7
LOOP_CONTROL = Path("/dev/loop-control")


class MachineError(Exception):
    """What went wrong, and what to do."""


@dataclass(frozen=True)
class Container:
    """One machine as podman knows it. `var` is where its /var lies on this host."""

    id: str
    name: str
    machine: str
    cluster: str
    address: str
    var: Path
    state: str

    @property
    def host_key(self) -> str:
        """Its public SSH host key; empty when SSH has never answered in it."""
        return read(self.var / "lib/kubewright-machine/host_key")

    @property
    def authorized_key(self) -> str:
        """The SSH key that it lets in, beside those that its user added."""
        return read(self.var / "lib/kubewright-machine/authorized_keys")

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


def podman(*arguments: str) -> str:
    """Run podman and return its standard output."""
    result = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise MachineError(f"podman {arguments[0]} {arguments[1]}: {result.stderr.strip()}")
    return result.stdout


def parse_containers(entries: Iterable[Mapping[str, Any]]) -> list[Container]:
    """Containers with our labels out of `podman ps --format json`, sorted by machine."""
    found = []
    for entry in entries:
        labels = entry.get("Labels") or {}
        if LABEL + "machine" in labels:
            found.append(
                Container(
                    id=entry["Id"],
                    name=entry["Names"][0],
                    machine=labels[LABEL + "machine"],
                    cluster=labels[LABEL + "cluster"],
                    address=labels[LABEL + "address"],
                    var=Path(labels[LABEL + "var"]),
                    state=entry["State"],
                )
            )
    return sorted(found, key=lambda container: container.machine)


def containers(cluster: str) -> list[Container]:
    """The cluster's containers."""
    label = f"label={LABEL}cluster={cluster}"
    return parse_containers(json.loads(podman("ps", "--all", "--filter", label, "--format=json")))


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


def remove_remains(cluster: str, wanted: Sequence[str]) -> list[Container]:
    """Clear away what interrupted runs left in the way of `wanted`; return what stays.

    A volume without a container goes too: a machine that is made anew begins with an empty /var.
    """
    remains.wait_for_podman({PREFIX + machine for machine in wanted})
    # --external: also what podman's storage knows and podman does not.
    entries = json.loads(podman("ps", "--all", "--external", "--no-trunc", "--format=json"))
    known = parse_containers(entries)
    ours = [container for container in known if container.cluster == cluster]
    stay = [container for container in ours if not container.is_half_made]
    names = {PREFIX + machine for machine in wanted} - {container.name for container in stay}
    for container in known:
        if container.name in names and container.cluster != cluster:
            raise MachineError(
                f"The container {container.name} belongs to the cluster {container.cluster}. "
                "Give this cluster or its pool another name."
            )
    doomed = [entry["Id"] for entry in entries if not names.isdisjoint(entry["Names"] or [])]
    doomed += [item.id for item in ours if item.is_half_made and item.id not in doomed]
    for identity in [*doomed, *(item.id for item in stay if not item.is_alive)]:
        remains.sweep(identity)
    for item in stay:
        if item.state == "initialized":  # podman waits for what the sweep has ended
            podman("container", "cleanup", item.id)
    if doomed:
        podman("rm", "--force", "--time=0", *doomed)
    remains.end_orphan_namespaces()
    podman("volume", "prune", "--force", "--filter", f"label={LABEL}cluster={cluster}")
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


def ensure_network(cluster: str, pool: str, avoid: Sequence[str]) -> tuple[str, str, str]:
    """The cluster's network: its name, subnet and gateway (the address of this host in it).

    It is internal: netavark then sets up no firewall rule at all. Nodes reach each other and this
    host, and nothing else. Podman itself picks no gateway for such a network, and without one this
    host has no address in it; so the subnet is picked here, and podman refuses one that is taken.
    """
    name = PREFIX + cluster
    for network in json.loads(podman("network", "ls", "--format=json")):
        if network["name"] == name:
            subnet = network["subnets"][0]
            return name, subnet["subnet"], subnet["gateway"]
    for candidate in addresses.free_subnets(pool, [*avoid, *routed_networks()]):
        gateway = str(ipaddress.IPv4Network(candidate)[1])
        try:
            podman(
                *("network", "create", "--internal", "--disable-dns"),
                *("--label", f"{LABEL}cluster={cluster}"),
                *(
                    "--subnet",
                    candidate,
                    "--ip-range",
                    addresses.leases(candidate),
                    "--gateway",
                    gateway,
                ),
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


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """What the machines share, and what has to be decided in one place: who gets which address.

    Returns the image's name, the network's name and gateway, and of each machine that does not
    exist yet its address and where its /var lies.
    """
    stay = remove_remains(options.cluster, options.machines)
    ensure_loop_devices(options.loop_devices)
    script = Path(__file__).with_name("machine_image.sh")
    image = subprocess.run(
        ["bash", script, options.cache], stdout=subprocess.PIPE, text=True, check=False
    )
    if image.returncode:
        raise MachineError(f"{script} failed, see above.")
    network, subnet, gateway = ensure_network(options.cluster, options.subnet_pool, options.avoid)
    missing = [name for name in options.machines if name not in {item.machine for item in stay}]
    placed = addresses.place(missing, (item.address for item in stay), subnet)
    volumes = {machine: f"{PREFIX}{machine}-var" for machine in missing}
    for machine, volume in volumes.items():
        labels = (f"cluster={options.cluster}", f"machine={machine}")
        podman("volume", "create", *(f"--label={LABEL}{label}" for label in labels), volume)
    made = json.loads(podman("volume", "inspect", *volumes.values())) if volumes else []
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
        "machines": machines,
    }


# --- delete ------------------------------------------------------------------------------------


def delete(options: argparse.Namespace) -> dict[str, Any]:
    """Remove one machine, or everything that the cluster has here; what is gone already is fine."""
    wanted = {LABEL + "cluster": options.cluster}
    if options.machine:
        wanted[LABEL + "machine"] = options.machine
    volumes = [item["Name"] for item in listing("volume", wanted)]
    remains.wait_for_podman({name.removesuffix("-var") for name in volumes})
    found = json.loads(podman("ps", "--all", "--external", "--no-trunc", "--format=json"))
    doomed = [entry for entry in found if belongs(entry, wanted)]
    for entry in doomed:
        if entry.get("State") not in ALIVE:
            remains.sweep(entry["Id"])
    if doomed:
        podman("rm", "--force", "--ignore", "--time=0", *(entry["Id"] for entry in doomed))
    remains.end_orphan_namespaces()
    if volumes:
        podman("volume", "rm", "--force", *volumes)
    networks = [] if options.machine else listing("network", wanted)
    for network in networks:
        podman("network", "rm", "--force", network["name"])
        remains.remove_bridge(network["network_interface"])
    if not options.machine:
        remains.release_namespace_directory()
    return {"changed": bool(doomed or volumes or networks)}


def listing(kind: str, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """Podman's volumes or networks that have all the labels."""
    items = json.loads(podman(kind, "ls", "--format=json"))
    return [item for item in items if has_labels(item, wanted)]


def belongs(entry: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether an entry of `podman ps` has the labels, or is an unlabelled remainder by its name."""
    if has_labels(entry, wanted):
        return True
    names = [] if entry.get("Labels") else entry["Names"] or []
    if LABEL + "machine" in wanted:
        return PREFIX + wanted[LABEL + "machine"] in names
    return any(name.startswith(f"{PREFIX}{wanted[LABEL + 'cluster']}-") for name in names)


def has_labels(entry: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether podman's entry of a container, volume or network has all the labels."""
    labels = entry.get("Labels") or entry.get("labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, as the module's docstring describes it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "prepare", "delete"):
        command = commands.add_parser(name)
        command.add_argument("--cluster", required=True)
        if name == "list":
            command.add_argument("--public-key", type=Path)
        if name == "prepare":
            command.add_argument("--cache", type=Path, required=True)
            command.add_argument("--subnet-pool", required=True)
            command.add_argument("--avoid", action="append", default=[])
            command.add_argument("--loop-devices", type=int, required=True)
            command.add_argument("machines", nargs="+")
        if name == "delete":
            command.add_argument("--machine")
    return parser.parse_args(arguments)


def main() -> int:
    """Run one command."""
    options = parse_arguments()
    try:
        if options.command == "list":
            key = read(options.public_key) if options.public_key else None
            result: Any = [as_machine(item, key) for item in containers(options.cluster)]
        elif options.command == "prepare":
            result = prepare(options)
        else:
            result = delete(options)
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
