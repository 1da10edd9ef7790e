# SPDX-License-Identifier: Apache-2.0
"""Which machines a cluster has, by name, and which of the known ones it is not to have any more.

The only place that numbers machines. A pool of a given size keeps the machines that there are,
under their names; new ones get the lowest free numbers. So when the second of three has died and
the size is lowered to two, the first and the third stay. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from kubewright.agreed import inventory as rules
from kubewright.spec.machines import Kept, Machine, Machines, Own
from kubewright.spec.models import ControlPlane, Node, Pool, Spec
from kubewright.spec.names import CONTROL_PLANE, host_name

#: How bad a machine's state is, by its name, where nothing is known: 0. The worst go first.
State = Mapping[str, int]


@dataclass(frozen=True)
class Leaving:
    """A machine that is known and that the file does not want. ``why``: in words.

    ``pool``: "" on control planes. ``own``: how to reach it, of one's own machines.
    """

    machine: Machine
    role: str
    pool: str
    why: str
    own: Own | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.machine.name

    @property
    def node(self) -> Node | None:
        """What the file had to say of a machine of one's own."""
        own = self.own
        if own is None:
            return None
        return Node(name=own.name, address=own.address, host_keys=own.host_keys)


@dataclass(frozen=True)
class Roster:
    """The nodes of each place in their order, and the machines that are leaving."""

    control_planes: tuple[str, ...]
    pools: Mapping[str, tuple[str, ...]]
    leaving: tuple[Leaving, ...] = field(default=())

    @property
    def hosts(self) -> tuple[str, ...]:
        """All nodes: control planes first, then pool by pool."""
        return (*self.control_planes, *(host for hosts in self.pools.values() for host in hosts))

    @property
    def known(self) -> tuple[str, ...]:
        """All nodes, and the machines that are leaving."""
        return (*self.hosts, *(one.name for one in self.leaving))

    @property
    def planes(self) -> tuple[str, ...]:
        """The control planes, also those that are leaving: they run etcd until then."""
        going = (one.name for one in self.leaving if one.role == rules.CONTROL_PLANE)
        return (*self.control_planes, *going)


def of(spec: Spec, machines: Machines | None = None) -> Roster:
    """Return who is in and who is out, by what is known of the machines; of a new cluster nothing.

    Where a pool has too many, those go first that were named, then those that were chosen by their
    state, then those with the highest numbers.
    """
    known = machines or Machines(spec.name)
    staying = {name: _hosts(spec, name, place, known) for name, place in _places(spec)}
    hosts = {host for names in staying.values() for host in names}
    own = {one.name: one for one in known.kept.own}
    leaving = (
        _leaving(spec, machine, own.get(machine.name))
        for machine in known.machines
        if machine.name not in hosts and (machine.provider != rules.STATIC or machine.name in own)
    )
    planes = staying.pop(CONTROL_PLANE)
    return Roster(planes, staying, tuple(sorted(leaving, key=_order)))


def choose(spec: Spec, machines: Machines, state: State) -> Kept:
    """Return what to keep for the places that have too many machines: who goes, by their state.

    A user's choice stays for as long as there are too many. What is kept says how many go: no more
    than that are chosen.
    """
    kept = machines.kept
    named: list[str] = []
    chosen: list[str] = []
    for name, place in _places(spec):
        there = _there(spec, name, place, machines.machines)
        surplus = len(there) - (place.size or 0) if place.size is not None else 0
        if surplus <= 0:
            continue
        mine = [host for host in there.values() if host in kept.named]
        worst = sorted(there, key=lambda number: (-state.get(there[number], 0), -number))
        named += mine
        chosen += [
            there[number]
            for number in worst
            if there[number] not in mine and state.get(there[number], 0)
        ][: max(0, surplus - len(mine))]
    return Kept(kept.own, tuple(sorted(named)), tuple(sorted(chosen)))


def _places(spec: Spec) -> Iterator[tuple[str, ControlPlane | Pool]]:
    yield CONTROL_PLANE, spec.control_plane
    yield from ((pool.name, pool) for pool in spec.pools)


def _hosts(spec: Spec, name: str, place: ControlPlane | Pool, known: Machines) -> tuple[str, ...]:
    if place.size is None:
        return tuple(node.name for node in place.nodes)
    there = _there(spec, name, place, known.machines)
    kept = known.kept
    best = sorted(
        there,
        key=lambda number: (there[number] in kept.named, there[number] in kept.chosen, number),
    )
    staying = best[: place.size]
    free = (number for number in count(1) if number not in there)
    numbers = [*staying, *islice(free, place.size - len(staying))]
    return tuple(host_name(spec.name, name, number) for number in sorted(numbers))


def _there(
    spec: Spec, name: str, place: ControlPlane | Pool, machines: Sequence[Machine]
) -> dict[int, str]:
    """The machines that a place's provider has made for it, by number."""
    own = spec.own_hosts()
    found = {}
    for machine in machines:
        made = _made(spec.name, machine.name)
        if (
            made
            and made[0] == name
            and machine.provider == place.provider
            and machine.name not in own
        ):
            found[made[1]] = machine.name
    return found


def _made(cluster: str, host: str) -> tuple[str, int] | None:
    """Return the place and the number in the name of a machine that a provider has made."""
    front, _, digits = host.rpartition("-")
    if not (digits.isascii() and digits.isdigit()) or digits.startswith("0"):
        return None
    place = front.removeprefix(f"{cluster}-")
    return (place, int(digits)) if place != front and place else None


def _leaving(spec: Spec, machine: Machine, own: Own | None) -> Leaving:
    if own and machine.provider == rules.STATIC:
        return Leaving(
            machine, own.role, own.pool, _why(spec, own.pool or CONTROL_PLANE, None), own
        )
    place, _ = _made(spec.name, machine.name) or ("", 0)
    plane = place == CONTROL_PLANE
    role = rules.CONTROL_PLANE if plane else rules.WORKER
    return Leaving(machine, role, "" if plane else place, _why(spec, place, machine.provider))


def _why(spec: Spec, name: str, provider: str | None) -> str:
    """Say why. ``provider``: None of a machine that the file listed by its name."""
    place = next((place for other, place in _places(spec) if other == name), None)
    if place is None:
        return f"pool {name} was removed" if name else "no longer in cluster.yml"
    if provider is None or place.provider != provider:
        return "no longer in cluster.yml"
    what = "the control plane" if name == CONTROL_PLANE else f"pool {name}"
    return f"{what} has size {place.size}"


def _order(one: Leaving) -> tuple[bool, str, int, str]:
    """Control planes first, then by pool and number."""
    front, _, digits = one.name.rpartition("-")
    number = int(digits) if digits.isascii() and digits.isdigit() else 0
    return (one.role != rules.CONTROL_PLANE, one.pool, number, front)
