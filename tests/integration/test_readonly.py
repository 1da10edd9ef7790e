# SPDX-License-Identifier: Apache-2.0
"""What a node runs comes from the read-only system image."""

from __future__ import annotations

import json

import pytest
from cluster import Cluster
from machines import run_on

#: Runs on the node: what happens to a write, and from which file system the services execute.
_LOOK = """
import errno, json, os, subprocess

def write(path):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"

def executes(unit):
    show = ["systemctl", "show", "--property=MainPID", "--value", unit]
    pid = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    program = os.stat(f"/proc/{pid}/exe")
    return {"pid": int(pid), "from_image": program.st_dev == os.stat("/opt/kubewright").st_dev}

image = "/opt/kubewright"
targets = [f"{image}/new", f"{image}/bin/kubelet", f"{image}/lb/etc/new", f"{image}/images/new"]
units = ["containerd.service", "kubelet.service", "kubewright-balancer.service"]
print(json.dumps({
    "writes": {path: write(path) for path in targets},
    "services": {unit: executes(unit) for unit in units},
    "mounted": subprocess.run(
        ["findmnt", "--noheadings", "--output=FSTYPE,SOURCE", image],
        capture_output=True, text=True, check=True,
    ).stdout.split(),
}))
"""


@pytest.mark.parametrize("index", range(5))
def test_system_image_is_read_only_and_runs(cluster: Cluster, index: int) -> None:
    seen = json.loads(run_on(cluster.nodes[index], ["python3", "-c", _LOOK]))
    assert set(seen["writes"].values()) == {"EROFS"}, seen["writes"]
    assert seen["mounted"][0] == "squashfs", seen["mounted"]
    for unit, service in seen["services"].items():
        assert service["pid"] > 0, f"{unit} does not run"
        assert service["from_image"], f"{unit} executes something else than the system image's"
