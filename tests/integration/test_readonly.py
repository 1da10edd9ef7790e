# SPDX-License-Identifier: Apache-2.0
"""What a node runs comes from the system volume, and nobody writes to it in passing."""

from __future__ import annotations

import json

import pytest
from cluster import Cluster
from machines import IMAGE_ROOT, run_on
from sealed import PLACES

#: Runs on the node: which writes are not refused, and from which file system services execute.
_LOOK = """
import errno, json, os, subprocess, sys

looked, accepted = 0, []

def attempt(path):
    global looked
    looked += 1
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        accepted.append(f"{path}: {error}")
    else:
        accepted.append(path)

def executes(unit):
    show = ["systemctl", "show", "--property=MainPID", "--value", unit]
    pid = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    program = os.stat(f"/proc/{pid}/exe")
    return {"pid": int(pid), "from_image": program.st_dev == os.stat("/opt/kubewright").st_dev}

for place in sys.argv[1:]:
    for directory, _, files in os.walk(place):
        attempt(f"{directory}/kubewright-test")
        for path in (f"{directory}/{name}" for name in files):
            if not os.path.islink(path):
                attempt(path)
units = ["containerd.service", "kubelet.service", "kubewright-balancer.service"]
print(json.dumps({
    "looked": looked,
    "accepted": accepted,
    "services": {unit: executes(unit) for unit in units},
}))
"""


@pytest.mark.parametrize("index", range(5))
def test_each_place_refuses_writes_and_services_run_from_the_image(
    cluster: Cluster, index: int
) -> None:
    node = cluster.nodes[index]
    seen = json.loads(run_on(node, ["python3", "-c", _LOOK, IMAGE_ROOT, *PLACES]))
    assert seen["accepted"] == []
    assert seen["looked"] > 100, "the image alone has more files"
    for unit, service in seen["services"].items():
        assert service["pid"] > 0, f"{unit} does not run"
        assert service["from_image"], f"{unit} executes something else than the system image's"
