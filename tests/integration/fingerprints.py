# SPDX-License-Identifier: Apache-2.0
"""What is on a node, so that anything that was written anew or restarted shows later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kube import Kube
from machines import IMAGE_ROOT, run_on

UNITS = (
    "var-lib-kubewright-system.mount",
    "kubewright-seal.service",
    "opt-kubewright.mount",
    "etc-kubewright.mount",
    "etc-kubernetes.mount",
    "kubewright-balancer.service",
    "systemd-sysctl.service",
    "containerd.service",
    "kubelet.service",
    "ssh.service",
)
#: Paths, and with a slash at the end all that lies below: what is managed, and what is near it.
PATHS = (
    "/etc/hosts",
    "/etc/crictl.yaml",
    "/etc/profile.d/",
    "/etc/sysctl.d/",
    "/etc/modules-load.d/",
    "/etc/tmpfiles.d/",
    "/etc/kubewright/",
    "/etc/systemd/system/",
    "/etc/cni/",
    "/opt/cni/",
    "/etc/kubernetes/",
    "/var/lib/etcd",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/kubewright/kubeadm.json",
    "/var/lib/kubewright/system/active",
)
AT_ONCE = 3

#: Runs on the node. A link is where it points to: enabling a unit makes its link anew. A
#: directory's mtime tells of what others put into it, so it is left out.
_LOOK = """
import hashlib, json, os, stat, subprocess, sys
from pathlib import Path

paths, units, crictl = json.load(sys.stdin)

def file(path):
    status = path.lstat()
    what = [oct(status.st_mode), status.st_uid, status.st_gid]
    if stat.S_ISLNK(status.st_mode):
        return {"what": ["link to", os.readlink(path)], "when": []}
    if stat.S_ISDIR(status.st_mode):
        return {"what": what, "when": [status.st_ino]}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"what": [*what, digest], "when": [status.st_ino, status.st_mtime_ns]}

def under(text):
    path = Path(text)
    if os.path.lexists(path):
        yield path
        if text.endswith("/"):
            yield from path.rglob("*")

def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

names = "Id,ActiveState,UnitFileState,InvocationID,ActiveEnterTimestampMonotonic"
blocks = output("systemctl", "show", f"--property={names}", *units).strip().split("\\n\\n")
shown = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
socket = "unix:///run/containerd/containerd.sock"
endpoints = [f"--runtime-endpoint={socket}", f"--image-endpoint={socket}"]
containers = json.loads(output(crictl, *endpoints, "ps", "--output=json"))["containers"]
print(json.dumps({
    "files": {str(path): file(path) for text in paths for path in under(text)},
    "units": {
        unit["Id"]: {
            "what": [unit["ActiveState"], unit["UnitFileState"]],
            "when": [unit["InvocationID"], unit["ActiveEnterTimestampMonotonic"]],
        }
        for unit in shown
    },
    "containers": {
        entry["id"]: entry["labels"]["io.kubernetes.pod.name"] + "/" + entry["metadata"]["name"]
        for entry in containers
    },
}))
"""


@dataclass(frozen=True)
class Fingerprint:
    """Files by path and units by name: what each is, and since when. Containers by id."""

    files: dict[str, dict[str, Any]]
    units: dict[str, dict[str, Any]]
    containers: dict[str, str]


def look(machine: str) -> Fingerprint:
    """Return the fingerprint of a machine; containerd has to run there."""
    asked = json.dumps([PATHS, UNITS, f"{IMAGE_ROOT}/bin/crictl"]).encode()
    return Fingerprint(**json.loads(run_on(machine, ["python3", "-c", _LOOK], stdin=asked)))


def look_at(machines: Sequence[str]) -> dict[str, Fingerprint]:
    """Return the fingerprints of machines by name."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(machines, pool.map(look, machines), strict=True))


def differences(
    before: Fingerprint,
    after: Fingerprint,
    rewrites: frozenset[str] = frozenset(),
    restarts: frozenset[str] = frozenset(),
    containers: frozenset[str] = frozenset(),
    perhaps: frozenset[str] = frozenset(),
) -> list[str]:
    """Return what is not as it was, in words.

    Files in ``rewrites`` may have been written anew, with the same content; exactly the units in
    ``restarts`` and the ``containers`` of these names must have been restarted; those of
    ``perhaps`` may have been.
    """
    problems = []
    for path in sorted(set(before.files) | set(after.files)):
        old, new = before.files.get(path), after.files.get(path)
        if old is None or new is None:
            problems.append(f"{path} {'has come' if old is None else 'has gone'}")
        elif old["what"] != new["what"]:
            problems.append(f"{path} is {new['what']}, was {old['what']}")
        elif old["when"] != new["when"] and path not in rewrites:
            problems.append(f"{path} was written anew (inode, mtime: {old['when']}, {new['when']})")
    for unit, old in before.units.items():
        new = after.units[unit]
        if old["what"] != new["what"]:
            problems.append(f"{unit} is {new['what']}, was {old['what']}")
        if (old["when"] != new["when"]) is not (unit in restarts):
            problems.append(f"{unit} was {'not ' if unit in restarts else ''}restarted")
    ended = {name for one, name in before.containers.items() if one not in after.containers}
    begun = {name for one, name in after.containers.items() if one not in before.containers}
    restarted = {name for name in ended & begun if name.rpartition("/")[2] in containers | perhaps}
    problems += [f"container {name} has ended" for name in sorted(ended - restarted)]
    problems += [f"container {name} is new" for name in sorted(begun - restarted)]
    missed = containers - {name.rpartition("/")[2] for name in restarted}
    return problems + [f"container {name} was not restarted" for name in sorted(missed)]


def node_objects(kube: Kube) -> dict[str, tuple[dict[str, str], list[str]]]:
    """Return labels and taints of all Nodes, without the taints that come and go with health."""
    found = {}
    for item in kube.core.list_node(_request_timeout=5).items:
        taints = [f"{taint.key}:{taint.effect}" for taint in item.spec.taints or []]
        lasting = sorted(taint for taint in taints if not taint.startswith("node.kubernetes.io/"))
        found[item.metadata.name] = (dict(item.metadata.labels), lasting)
    return found
