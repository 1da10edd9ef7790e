# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What the checks of all machines say together. Pure.

A finding of a machine is kept as it is; here is added what shows only beside the others, and
machines that say nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.findings import (
    FATAL,
    WARNING,
    Finding,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._check import refusals

HERE = "localhost"
# Of many hosts so many are named: a sentence is to be read.
NAMED = 3
#: The check of what `node_state` says of the traffic through a node.
TRAFFIC = "traffic"
HostFinding = tuple[str, Finding]


@dataclass(frozen=True)
class Fleet:
    """All nodes, as the probe left them.

    `answers`: the registered result of ``node_state`` by host, empty for a host that was not
    asked. `begun`: whether the cluster has been whole once. `skip_unreachable`: the user agrees
    that a first apply goes on without those that do not answer. `in_no_pool`: the provider of each
    machine that no pool has. `claimed`: machines that carry the cluster's id only since this run.
    `nodes`: what the inventory says of each host, of which the provider counts.
    """

    answers: Mapping[str, Mapping[str, Any]]
    control_planes: Sequence[str]
    cluster_name: str = ""
    cluster_id: str = ""
    state_dir: str = ""
    begun: bool = False
    skip_unreachable: bool = False
    in_no_pool: Mapping[str, str] = field(default_factory=dict)
    claimed: Sequence[str] = ()
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def present(self) -> dict[str, Mapping[str, Any]]:
        """Those that answered."""
        return {host: one for host, one in self.answers.items() if "membership" in one}

    @cached_property
    def left_out(self) -> dict[str, refusals.Refusal]:
        """Those that did not, and why."""
        return {
            host: _reason(answer).of(host, str(self.nodes.get(host, {}).get("provider", "")))
            for host, answer in self.answers.items()
            if host not in self.present
        }

    @cached_property
    def incomplete(self) -> bool:
        """Whether anybody is left out without the user's consent, which is for silence alone."""
        return any(
            why.check == refusals.PROBE or not self.skip_unreachable
            for why in self.left_out.values()
        )


def examine(fleet: Fleet) -> list[dict[str, str]]:
    """All findings with ``host``: fatal ones first, then host by host."""
    known = [HERE, *fleet.answers, *fleet.in_no_pool]
    order = {host: number for number, host in enumerate(known)}
    found = sorted(_all(fleet), key=lambda one: (one[1].severity != FATAL, order[one[0]]))
    return [{"host": host, **finding.as_dict()} for host, finding in found]


def _all(fleet: Fleet) -> Iterator[HostFinding]:
    yield from _silent(fleet)
    yield from _foreign(fleet)
    for host, answer in fleet.present.items():
        yield from ((host, Finding(**one)) for one in answer.get("findings") or ())
    yield from _copies(fleet)
    yield from _names(fleet)
    yield from _packets(fleet)
    yield from _clocks(fleet)
    yield from _in_no_pool(fleet)
    yield from _claimed(fleet)
    yield from _traffic(fleet)


def _in_no_pool(fleet: Fleet) -> Iterator[HostFinding]:
    """An apply removes no machine, and one that is paid for is not to be forgotten."""
    for host, provider in fleet.in_no_pool.items():
        yield (
            host,
            Finding(
                "machine",
                WARNING,
                f"It exists at the provider {provider}, but is in no pool. It was not touched.",
                f"If it is not needed, run `kubewright node remove {host}`, or the playbook "
                "node_remove. Otherwise restore its pool.",
            ),
        )


def _claimed(fleet: Fleet) -> Iterator[HostFinding]:
    """It is done once, and a cluster's owner should know."""
    for host in fleet.claimed:
        yield (
            host,
            Finding(
                "machine",
                WARNING,
                "It was created before machines carried a cluster id, and now carries "
                f"that of {fleet.cluster_name} ({fleet.cluster_id}).",
                "Nothing to do.",
            ),
        )


def _silent(fleet: Fleet) -> Iterator[HostFinding]:
    """A begun cluster is worked on without them; a new one only where that is safe and agreed."""
    answering = sum(host in fleet.present for host in fleet.control_planes)
    total = len(fleet.control_planes)
    majority = answering > total / 2
    for host, why in fleet.left_out.items():
        silent = why.check != refusals.PROBE
        without = fleet.begun or (fleet.skip_unreachable and majority and silent)
        more = ""
        if fleet.begun or not silent:
            pass
        elif not majority:
            more = (
                f" A cluster can only be initialized when more than half of the control "
                f"planes answer; {answering} of {total} do."
            )
        elif not without:
            more = (
                " To start without it: `kubewright apply --skip-unreachable`, or "
                "the extra variable kubewright_skip_unreachable=true; a later apply adds it."
            )
        text = f"{why.text} It is left out." if without else why.text
        severity = WARNING if without else FATAL
        yield host, Finding(why.check, severity, text, why.remedy + more)


def _reason(answer: Mapping[str, Any]) -> refusals.Refusal:
    if not answer:
        return refusals.Refusal(
            "machine",
            "Its machine does not exist, is off, or could not be created.",
            "If it is on, see what failed before this.",
            off=True,
        )
    parts = (answer.get(key) for key in ("msg", "module_stderr", "module_stdout", "stderr"))
    said = "\n".join(str(part) for part in parts if part)
    unreachable = bool(answer.get("unreachable"))
    return refusals.explain(said) or refusals.unexplained(
        str(answer.get("msg") or said), unreachable
    )


def _foreign(fleet: Fleet) -> Iterator[HostFinding]:
    """Where the state was lost, or another directory is named, authorities would be replaced."""
    for host, answer in fleet.present.items() if fleet.cluster_id else ():
        member = answer["membership"]
        if member["phase"] == "none" or member["cluster_id"] == fleet.cluster_id:
            continue
        yield (
            host,
            Finding(
                "cluster",
                FATAL,
                f"It is part of another cluster ({member['cluster_id']}), "
                f"not of {fleet.cluster_name} as recorded in {fleet.state_dir} "
                f"({fleet.cluster_id}). It was not changed.",
                "If its state is elsewhere, set KUBEWRIGHT_STATE_DIR; if it was lost, "
                "restore it from a backup. To create a new cluster from these machines, "
                "reset or replace them first.",
            ),
        )


def _copies(fleet: Fleet) -> Iterator[HostFinding]:
    """The kubelet and DHCP tell machines apart by it."""
    for host, others in _same(fleet.present, "machine_id"):
        yield (
            host,
            Finding(
                "machine-id",
                _severity(fleet, host),
                f"It has the same machine-id as {others}: one is a clone of the other.",
                "Give one of them a new one: `rm /etc/machine-id /var/lib/dbus/machine-id`, "
                "`systemd-machine-id-setup`, then reboot it.",
            ),
        )


def _names(fleet: Fleet) -> Iterator[HostFinding]:
    """Nodes are called as in the inventory, so this only confuses those who read logs."""
    for host, others in _same(fleet.present, "hostname"):
        name = fleet.present[host]["machine"]["hostname"]
        yield (
            host,
            Finding(
                "hostname",
                WARNING,
                f"It has the same hostname ({name}) as {others}; the nodes "
                "are still told apart by their inventory names.",
                f"`hostnamectl set-hostname {host}` there.",
            ),
        )


def _packets(fleet: Fleet) -> Iterator[HostFinding]:
    """Where they differ, large packets of pods may be lost on the way."""
    sizes = {
        host: answer["machine"]["mtu"]
        for host, answer in fleet.present.items()
        if answer["machine"].get("mtu")
    }
    if len(set(sizes.values())) < 2:
        return
    usual, _ = Counter(sizes.values()).most_common(1)[0]
    example = next(host for host, size in sizes.items() if size == usual)
    for host, size in sizes.items():
        if size != usual:
            link = fleet.present[host]["machine"]["interface"]
            yield (
                host,
                Finding(
                    "mtu",
                    WARNING,
                    f"The MTU of {link} is {size}, but {usual} on others "
                    f"(such as {example}): large packets between them may be lost.",
                    f"Make them the same, if the network supports it: `ip link set {link} mtu "
                    f"{usual}`, and in the network's configuration.",
                ),
            )


def _clocks(fleet: Fleet) -> Iterator[HostFinding]:
    """Only what is sure: a question and its answer take time, and nobody knows how much each."""
    clocks = {
        host: answer["clock"] for host, answer in fleet.present.items() if answer.get("clock")
    }
    off = {host: clock for host, clock in clocks.items() if _surely_off(clock)}
    if len(off) > 1 and len(off) == len(clocks) and _agree(off.values()):
        severities = {_severity(fleet, host) for host in off}
        some = next(iter(off.values()))
        yield (
            HERE,
            Finding(
                "clock",
                FATAL if FATAL in severities else WARNING,
                f"All machines agree on the time, but this machine's clock is {_told(some, -1)}.",
                "Set this machine's clock (`timedatectl set-ntp true`): it issues the "
                "certificates.",
            ),
        )
        return
    for host, clock in off.items():
        yield host, _clock(fleet, host, f"Its clock is {_told(clock)} this machine's.")
    rest = {host: clock for host, clock in clocks.items() if host not in off}
    if rest:
        early = min(rest, key=lambda host: rest[host]["most"])
        late = max(rest, key=lambda host: rest[host]["least"])
        gap = rest[late]["least"] - rest[early]["most"]
        if gap > min(rest[late]["tolerated"], rest[early]["tolerated"]):
            for host, other in ((early, late), (late, early)):
                yield host, _clock(fleet, host, f"Its clock is {gap:.1f} s or more off {other}'s.")


def _clock(fleet: Fleet, host: str, text: str) -> Finding:
    return Finding(
        "clock",
        _severity(fleet, host),
        f"{text} etcd and certificates need synchronized clocks.",
        "Turn on time synchronization (`timedatectl set-ntp true`, or install chrony), "
        "and check it with `timedatectl`.",
    )


def _traffic(fleet: Fleet) -> Iterator[HostFinding]:
    """But for what is only about nodes that don't answer, or are none: that is said elsewhere.

    Of a node whose Node was deleted the others have taken back their ways to its pods, and it
    hears nobody's.
    """
    nodes = {
        host
        for host, answer in fleet.present.items()
        if answer["membership"]["phase"] == "joined" and not answer.get("node_missing")
    }
    for host, answer in fleet.present.items():
        if answer.get("node_missing"):
            continue
        for one in answer.get("traffic") or ():
            if not one["about"] or nodes.intersection(one["about"]):
                yield host, Finding(TRAFFIC, WARNING, one["text"], one["remedy"])


def _surely_off(clock: Mapping[str, float]) -> bool:
    return clock["least"] > clock["tolerated"] or clock["most"] < -clock["tolerated"]


def _agree(clocks: Iterable[Mapping[str, float]]) -> bool:
    every = list(clocks)
    gap = max(one["least"] for one in every) - min(one["most"] for one in every)
    return gap <= min(one["tolerated"] for one in every)


def _told(clock: Mapping[str, float], sign: int = 1) -> str:
    """The bounds, without a false precision; *sign* -1 tells it from the other side."""
    near, far = sorted((abs(clock["least"]), abs(clock["most"])))
    ahead = (clock["least"] > 0) == (sign > 0)
    return f"{near:.1f} to {far:.1f} s {'ahead of' if ahead else 'behind'}"


def named(hosts: Sequence[str], without: str = "") -> str:
    """*hosts*, but for the one *without*: the first of them by name, and how many more."""
    first = list(islice((host for host in hosts if host != without), NAMED))
    more = len(hosts) - len(first) - (without in hosts)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _same(present: Mapping[str, Mapping[str, Any]], fact: str) -> Iterator[tuple[str, str]]:
    """Each host that has the *fact* as others have it, and these in words."""
    hosts: dict[str, list[str]] = {}
    for host, answer in present.items():
        if answer["machine"].get(fact):
            hosts.setdefault(answer["machine"][fact], []).append(host)
    for same in hosts.values():
        if len(same) > 1:
            yield from ((host, named(same, host)) for host in same)


def _severity(fleet: Fleet, host: str) -> str:
    """A node that is at work already is not refused."""
    return FATAL if fleet.present[host]["membership"]["phase"] == "none" else WARNING
