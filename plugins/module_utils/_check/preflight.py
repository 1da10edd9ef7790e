# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether a machine can be a node. Pure: facts in, findings out.

The limits are those of ``preflight_desired``, whose defaults and reasons stand in the role's
argument specs. `CHECKS` is all of it, in the order in which it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.findings import (
    FATAL,
    WARNING,
    Finding,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._check import survey
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import links

Facts = Mapping[str, Any]
Found = Iterator[Finding]
MIB = 1 << 20
GB = 1_000_000_000
TAKE_ANOTHER = "or use another machine"


def judge(desired: Facts, facts: Facts, address: str | None = None) -> list[Finding]:
    """Everything that is wrong with a machine that has not joined a cluster.

    *facts*: `_machine.facts.machine_facts` as ``machine``, and what `survey.survey` gives.
    *address*: the node's own, None where nobody said.
    """
    told = {**facts, "address": address}
    return [finding for check in CHECKS for finding in check(desired, told)]


def _root(desired: Facts, facts: Facts) -> Found:
    if not facts["machine"]["root"]:
        yield Finding(
            "root",
            FATAL,
            "Ansible is not root here.",
            "Connect as root, or set ansible_become for this host.",
        )


def _systemd(desired: Facts, facts: Facts) -> Found:
    if not facts["machine"]["systemd"]:
        yield Finding(
            "systemd",
            FATAL,
            "This machine does not run systemd.",
            "Use a distribution that boots with systemd.",
        )


def _python(desired: Facts, facts: Facts) -> Found:
    has, needed = facts["machine"]["python"], str(desired["python"])
    if _version(has) < _version(needed):
        yield Finding(
            "python",
            FATAL,
            f"Ansible uses Python {has} here; {needed} or newer required.",
            f"Install a newer Python, and set it for this host: ansible_python_interpreter: "
            f"/usr/bin/python{needed}.",
        )


def _architecture(desired: Facts, facts: Facts) -> Found:
    has, able = facts["machine"]["architecture"], desired["architectures"]
    if has not in able:
        yield Finding(
            "architecture",
            FATAL,
            f"The machine is {has}, but the system image is for {', '.join(able)}.",
            f"Build an image for it, {TAKE_ANOTHER}.",
        )


def _image(desired: Facts, facts: Facts) -> Found:
    if not desired["image"]:
        version = desired.get("version") or "VERSION"
        yield Finding(
            "image",
            FATAL,
            f"There is no system image of Kubernetes {version} for this node.",
            f"Build it with `kubewright image build {version}`.",
        )


def _cgroup(desired: Facts, facts: Facts) -> Found:
    has, able = facts["machine"]["cgroup"], desired["cgroup_versions"]
    if str(has) not in map(str, able):
        yield Finding(
            "cgroup",
            FATAL,
            f"The machine runs cgroup v{has}; v{' or v'.join(map(str, able))} required.",
            "Boot it with systemd.unified_cgroup_hierarchy=1.",
        )


def _swap(desired: Facts, facts: Facts) -> Found:
    swap = facts["machine"]["swap"]
    if swap and not desired["allow_swap"]:
        yield Finding(
            "swap",
            FATAL,
            f"Swap is on ({', '.join(swap)}).",
            "Turn it off with `swapoff -a` and remove it from /etc/fstab.",
        )


def _cpus(desired: Facts, facts: Facts) -> Found:
    has, needed = facts["machine"]["cpus"], int(desired["cpus"])
    if has < needed:
        yield Finding(
            "cpus",
            FATAL,
            f"The machine has {has} CPU(s); a {_role(desired)} needs {needed}.",
            f"Give it {needed} CPUs, {TAKE_ANOTHER}.",
        )


def _memory(desired: Facts, facts: Facts) -> Found:
    has, needed = facts["machine"]["memory"] // MIB, int(desired["memory_mib"])
    if has < needed:
        yield Finding(
            "memory",
            FATAL,
            f"The machine has {has} MiB of memory; a {_role(desired)} needs {needed}.",
            f"Give it more memory, {TAKE_ANOTHER}.",
        )


def _machine_id(desired: Facts, facts: Facts) -> Found:
    if not facts["machine"]["machine_id"]:
        yield Finding(
            "machine-id",
            FATAL,
            "/etc/machine-id is missing or empty, so this machine can't be told apart from its "
            "clones.",
            "Run `systemd-machine-id-setup` there, and reboot it.",
        )


def _address(desired: Facts, facts: Facts) -> Found:
    address, has = facts["address"], facts["machine"]["addresses"]
    if address is None:
        return
    known = links.canonical(address)
    if not known:
        yield Finding(
            "address",
            FATAL,
            f"The node's address is {address!r}, which is a name: etcd and the kubelet need an IP "
            "address.",
            "Give the machine's IP address as address (in kubewright_machine, or in cluster.yml); "
            "Ansible can still connect by name (ansible_host).",
        )
    # The kubelet refuses a node address that no interface has, and etcd cannot listen on it. So
    # behind a NAT it has to be the inner one.
    elif known not in has:
        inner = [f"{one} ({link})" for one, link in sorted(has.items()) if link != "lo"]
        yield Finding(
            "address",
            FATAL,
            f"No interface here has the node's address {address}; it may be an address "
            f"outside a NAT. It has {', '.join(inner) or 'none but loopback'}.",
            "Set address (in kubewright_machine, or in cluster.yml) to "
            "the one at which the nodes reach each other; Ansible can still connect to the "
            "other one (ansible_host).",
        )


def _mtu(desired: Facts, facts: Facts) -> Found:
    has, needed = facts["machine"]["mtu"], int(desired["mtu"])
    if 0 < has < needed:
        yield Finding(
            "mtu",
            WARNING,
            f"The largest packet of {facts['machine']['interface']} is {has} bytes, less than "
            f"{needed}: the pod network needs 50 of them itself.",
            f"Raise it (`ip link set {facts['machine']['interface']} mtu 1500`, and in the "
            "network's configuration), if the network between the nodes supports it.",
        )


def _ports(desired: Facts, facts: Facts) -> Found:
    for one in facts["listeners"]:
        yield Finding(
            "ports",
            FATAL,
            f"Port {one['port']} is in use by {one['process']}, but Kubernetes needs it.",
            f"Stop the process that listens there (`ss -tlnp 'sport = {one['port']}'` shows "
            "it), and keep it from starting again.",
        )


def _kernel(desired: Facts, facts: Facts) -> Found:
    for name, reason in facts["modules"].items():
        if "disabled in" in reason:
            remedy = f"Remove {name} from that file, then `modprobe {name}`."
        elif "missing" in reason:
            remedy = (
                "Reboot it if its kernel was upgraded (`ls /lib/modules`, `uname -r`). If it is a "
                f"container, run `modprobe {name}` on its host."
            )
        else:
            remedy = (
                f"Install all modules of this kernel (Ubuntu: linux-modules-extra-"
                f"{facts['machine']['kernel']}; others: a standard kernel), then "
                f"`modprobe {name}`."
            )
        yield Finding("kernel", FATAL, f"The kernel module {name} {reason}.", remedy)


def _disks(desired: Facts, facts: Facts) -> Found:
    for disk in facts["disks"]:
        volume, room = sum(disk["volume"].values()), sum(disk["room"].values())
        if disk["free"] >= volume + room:
            continue
        too_full = disk["free"] < volume
        wants = [
            f"{_gb(size)} for {path}"
            for path, size in [*disk["volume"].items(), *disk["room"].items()]
            if size
        ]
        yield Finding(
            "disk",
            FATAL if too_full else WARNING,
            f"{_gb(disk['free'])} are free on {disk['mount']}; required: {', '.join(wants)}.",
            f"Free some space (`du -xh {disk['mount']} | sort -h | tail` shows what is "
            "large), or mount a larger disk there.",
        )


def _volume(desired: Facts, facts: Facts) -> Found:
    if refused := facts["volume"]:
        yield Finding("volume", FATAL, refused["text"], refused["remedy"])


def _resolver(desired: Facts, facts: Facts) -> Found:
    one = facts["resolver"]
    instead = (
        "in a separate file, and set its path as resolvConf in the kubelet's settings "
        "(kubelet_args in cluster.yml, container_runtime_kubelet_configuration without it)"
    )
    if one["missing"]:
        yield Finding(
            "resolver",
            FATAL,
            f"{one['file']} is missing; the kubelet reads the DNS servers for pods from it.",
            f"Write `nameserver ADDRESS` into it, or {instead}.",
        )
    elif one["empty"]:
        # CoreDNS forwards what is not the cluster's to these: "no valid upstream addresses found".
        who, write = f"{one['file']} names", "Write `nameserver ADDRESS` into it"
        if one["file"] == survey.RESOLVED_CONF:
            who = "systemd-resolved has"
            write = (
                "Write `DNS=ADDRESS` below [Resolve] in /etc/systemd/resolved.conf, then "
                "`systemctl restart systemd-resolved`"
            )
        yield Finding(
            "resolver",
            FATAL,
            f"{who} no DNS server, but the cluster's DNS does not start without one.",
            f"{write}, or {instead}. If there is none, use any address: only names "
            "outside the cluster then fail to resolve.",
        )
    elif one["loopback"]:
        yield Finding(
            "resolver",
            FATAL,
            f"{one['file']} names a DNS server on loopback ({', '.join(one['loopback'])}). Every "
            "pod has its own loopback: the cluster's DNS would query itself, and exit.",
            f"Put the servers that it forwards to there, or {instead}.",
        )


# kind: severity, severity where roles of ours were at work before, text, remedy.
LEFT: dict[str, tuple[str, str, str, str]] = {
    "kubernetes": (
        FATAL,
        FATAL,
        "{where} exist, but Kubewright has no record of having joined this machine to a cluster.",
        "Remove it from that cluster (`kubectl drain`, `kubectl delete node`), "
        "then run `kubeadm reset` there; or use another machine.",
    ),
    "authority": (
        FATAL,
        FATAL,
        "{where} is the CA certificate of another cluster.",
        "If nothing needs it anymore: `rm -r /etc/kubernetes/pki`.",
    ),
    "etcd": (
        FATAL,
        FATAL,
        "{where} contains the data of an etcd that is not a member of this cluster.",
        "Back it up if it may still be needed, then `rm -r {where}`.",
    ),
    "process": (
        FATAL,
        FATAL,
        "{where} runs here and was not started by Kubewright.",
        "Uninstall it from this machine (`systemctl status PROCESS` shows its unit), "
        "or use another machine: a node must have no other container runtime or Kubernetes.",
    ),
    "links": (
        FATAL,
        WARNING,
        "Network interfaces of an earlier pod network are still there ({where}).",
        "Remove each with `ip link delete NAME`, or reboot the machine.",
    ),
    "network": (
        FATAL,
        WARNING,
        "Another pod network is configured in {where}; pods would use it.",
        "Move these files away from /etc/cni/net.d.",
    ),
    "k3s": (FATAL, FATAL, "k3s is installed here ({where}).", "Run `k3s-uninstall.sh` there."),
    "rke2": (FATAL, FATAL, "RKE2 is installed here ({where}).", "Run `rke2-uninstall.sh` there."),
    "microk8s": (
        FATAL,
        FATAL,
        "MicroK8s is installed here ({where}).",
        "Run `snap remove --purge microk8s` there.",
    ),
    "k0s": (
        FATAL,
        FATAL,
        "k0s is installed here ({where}).",
        "Run `k0s reset` there, then reboot it.",
    ),
}


def _leftovers(desired: Facts, facts: Facts) -> Found:
    for one in facts["leftovers"]:
        severity, prepared, text, remedy = LEFT[one["kind"]]
        yield Finding(
            "leftovers",
            prepared if facts["prepared"] else severity,
            text.format(**one),
            remedy.format(**one),
        )


CHECKS: tuple[Callable[[Facts, Facts], Iterable[Finding]], ...] = (
    _root,
    _systemd,
    _python,
    _architecture,
    _image,
    _cgroup,
    _swap,
    _cpus,
    _memory,
    _machine_id,
    _address,
    _mtu,
    _ports,
    _kernel,
    _disks,
    _volume,
    _resolver,
    _leftovers,
)


def _role(desired: Facts) -> str:
    return "control plane" if desired["role"] == "control_plane" else "worker"


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
