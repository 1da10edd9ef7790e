# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters: which machines may be restarted or switched off, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import inventory
from ansible_collections.kubewright.cluster.plugins.module_utils._kube.quorum import Quorum, Sight

#: What is said of one machine, and of several.
REBOOT = "reboot"
DONE = {REBOOT: "rebooted", "power_off": "switched off"}
ALLOW = "kubewright_allow_downtime=true"

Answer = Mapping[str, Any]


def foreign(carried: Mapping[str, str | None], record: Mapping[str, Any], cluster_name: str) -> str:
    """Why the machines in *carried* are not to be touched: some are another cluster's; else "".

    *carried*: the id of the cluster that each is a node of. *record*: what `cluster_record` says.
    Where no id is known here, nobody can tell.
    """
    known = record["ids"]
    theirs = {host: one for host, one in carried.items() if one and known and one not in known}
    if not theirs:
        return ""
    told = "; ".join(f"{host} is a node of the cluster {one}" for host, one in theirs.items())
    return (
        f"{told}, and {cluster_name} is {known[-1]} here. Nothing was changed. To work on "
        "these machines, use the state directory of their own cluster (KUBEWRIGHT_STATE_DIR)."
    )


def carried(answers: Mapping[str, Answer]) -> dict[str, str | None]:
    """The id of the cluster that each machine is a node of, by what `node_state` says of it."""
    return {
        host: (answer.get("membership") or {}).get("cluster_id") for host, answer in answers.items()
    }


def seen(answers: Mapping[str, Answer]) -> list[Mapping[str, Any]]:
    """Who has written to the machines that answered, for `run_epoch`."""
    return [answer["fence"] for answer in answers.values() if "fence" in answer]


def counted(answers: Mapping[str, Answer], control_planes: Sequence[str]) -> list[str]:
    """Those of the machines that etcd may have a member on, as far as they answered."""
    return [
        host
        for host, answer in answers.items()
        if _is_plane(host, answer, control_planes) and _phase(answer) != "none"
    ]


def order(
    answers: Mapping[str, Answer],
    operation: str,
    addresses: Mapping[str, str | None],
    etcd: Sequence[Answer],
    control_planes: Sequence[str],
) -> list[str]:
    """The machines in the order of their turns.

    *answers*: what `node_state` says of each machine that is meant. *operation*: reboot or
    power_off. *addresses*: of the control planes. *etcd*: what `etcd_info` says on each control
    plane that was asked, as a loop over names registers it.

    Of the control planes those come first that etcd does not count on. They are restarted before
    the workers, and switched off after them, so that the API goes last.
    """
    planes = [host for host in answers if _is_plane(host, answers[host], control_planes)]
    others = [host for host in answers if host not in planes]
    if sights := _sights(etcd):
        quorum = Quorum.of(sights)
        planes.sort(key=lambda host: bool(_on(quorum, [host], addresses) & quorum.maybe))
    return planes + others if operation == REBOOT else others + planes


def refusal(
    answers: Mapping[str, Answer],
    operation: str,
    addresses: Mapping[str, str | None],
    etcd: Sequence[Answer],
    control_planes: Sequence[str],
    downtime: bool = False,
) -> str:
    """Why none of the machines may have its turn; "" where all may, by what is known now.

    The same as for `order`, and *downtime*: the user agrees that the cluster stops meanwhile.
    A machine that cannot be reached may have its turn: that is what it is switched for.
    """
    for host, answer in answers.items():
        if "membership" not in answer and not answer.get("unreachable"):
            return f"{host} can't be checked, so nothing was changed: {answer.get('msg', '')}"
    missed = counted(answers, control_planes)
    leaving = [
        host
        for host in order(answers, operation, addresses, etcd, control_planes)
        if host in missed
    ]
    # Restarted ones are back when the next has its turn; those switched off stay off together.
    leaving = leaving[:1] if operation == REBOOT else leaving
    if not leaving or downtime:
        return ""
    return quorum_refusal(leaving, operation, addresses, etcd, control_planes)


def quorum_refusal(
    leaving: Sequence[str],
    operation: str,
    addresses: Mapping[str, str | None],
    etcd: Sequence[Answer],
    control_planes: Sequence[str],
) -> str:
    """Why etcd can't do without *leaving*, control planes; "" where it can.

    One that is alone may be restarted: it comes back by itself, and there is no other way.
    """
    alone = operation == REBOOT and list(leaving) == list(control_planes)
    what = f"{_names(leaving)} {'was' if len(leaving) == 1 else 'were'} not {DONE[operation]}"
    sights = _sights(etcd)
    if not sights:
        said = "; ".join(f"{one['item']}: {one.get('msg', 'no answer')}" for one in etcd)
        unknown = (
            f"{what}: no control plane can tell which etcd members are "
            f"healthy, so the cluster might lose quorum ({said or 'none was queried'}). Repair one "
            f"first. To continue even if the cluster stops, or has stopped already: -e {ALLOW}"
        )
        return "" if alone else unknown
    quorum = Quorum.of(sights)
    members = _on(quorum, leaving, addresses)
    whole = members == quorum.voters
    if not quorum.ends(members) or (alone and whole):
        return ""
    if whole:
        return (
            f"{what}: that is the whole control plane. Until it is back, the cluster "
            f"has no API, and nothing heals or starts pods. To do it anyway: -e {ALLOW}"
        )
    sick = sorted(quorum.voters - quorum.surely - members)
    first = (
        f"First power on or repair {_names(sick)} (see `kubewright status`)."
        if sick
        else "Take fewer of them."
    )
    return (
        f"{what}: {len(quorum.surely)} of etcd's {len(quorum.voters)} members are healthy "
        f"({_names(sorted(quorum.surely)) or 'none'}), {quorum.needed} have to be, and "
        f"{len(quorum.surely - members)} would be left. {first} To continue even if the "
        f"cluster stops meanwhile: -e {ALLOW}"
    )


def _on(
    quorum: Quorum, hosts: Sequence[str], addresses: Mapping[str, str | None]
) -> frozenset[str]:
    return quorum.members({host: addresses.get(host) or "" for host in hosts})


def _sights(etcd: Sequence[Answer]) -> list[Sight]:
    return [one["members"] for one in etcd if "members" in one]


def _is_plane(host: str, answer: Answer, control_planes: Sequence[str]) -> bool:
    role = (answer.get("membership") or {}).get("role")
    return host in control_planes or role == inventory.CONTROL_PLANE


def _phase(answer: Answer) -> str:
    return str((answer.get("membership") or {}).get("phase", ""))


def _names(hosts: Sequence[str]) -> str:
    return ", ".join(hosts)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names as used in playbooks."""
        return {
            "foreign_machines": foreign,
            "power_carried": carried,
            "power_counted": counted,
            "power_order": order,
            "power_quorum_refusal": quorum_refusal,
            "power_refusal": refusal,
            "power_seen": seen,
        }
