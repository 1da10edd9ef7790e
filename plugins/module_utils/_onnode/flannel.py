# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What flannel and the bridge of the pods have on this node.

Like `check`, which uses it, this very file also lies on each node, so it needs nothing but
Python's standard library.

Sources: flannel's subnet.env and pkg/trafficmngr/nftables; the CNI plugin ``bridge``, which starts
no pod where its bridge has an address of another network.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

try:
    from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import netlink
except ImportError:  # alone on a node
    import netlink  # type: ignore[import-not-found,no-redef]

SUBNETS = Path("/run/flannel/subnet.env")
BRIDGE = "cni0"
#: Its container, by labels of the kubelet; somebody's own flannel is called otherwise.
NAMESPACE, CONTAINER = "kube-flannel", "flannel"
#: What nft is asked for the rules of flannel, and what its answer has to hold.
RULES, MASQUERADE = "list chain ip flannel-ipv4 postrtg", "masquerade"
#: What nft says of a chain or a table that is not there.
ABSENT = "No such file or directory"
#: Seconds that a container has to write its rules.
BEGINS = 20.0
CRICTL = "/opt/kubewright/bin/crictl"
#: Besides what a shell has: an administrator's places, and the image's for what the machine lacks.
PLACES = "/usr/sbin:/sbin:/opt/kubewright/tools/run"
ENDPOINT = "unix:///run/containerd/containerd.sock"
CALL_SECONDS = 5.0


def announced() -> list[str]:
    """The networks that flannel has on this node; empty where it does not run."""
    try:
        lines = SUBNETS.read_text("utf-8").splitlines()
    except OSError:
        return []
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    values = [told[name] for name in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET") if told.get(name)]
    return [str(ipaddress.ip_network(value, strict=False)) for value in values]


def strangers(networks: Sequence[str]) -> list[str]:
    """Addresses of the bridge that are of none of these networks; none where there is no bridge."""
    names = {index: name for index, name in socket.if_nameindex()}
    return sorted(
        address
        for index, address in netlink.addresses()
        if names.get(index) == BRIDGE and is_foreign(address, networks)
    )


def is_foreign(address: str, networks: Sequence[str]) -> bool:
    """Whether an address is of none of these networks. That of a link alone belongs to none."""
    one = ipaddress.ip_address(address)
    return not one.is_link_local and not any(one in ipaddress.ip_network(net) for net in networks)


def masquerades() -> bool:
    """Whether what pods send to the world outside gets this node's address, without which no
    answer comes back. True where the flannel that runs here is not ours, or has just started.

    :raises OSError: nft or crictl can't be run, or fails.
    """
    chain = _run("nft", RULES)
    if chain.returncode and ABSENT not in chain.stderr:
        raise OSError(f"nft: {chain.stderr.strip()}")
    return MASQUERADE in chain.stdout or not _runs()


def _runs() -> bool:
    """Whether our flannel has run for long enough to have written its rules."""
    labels = (
        f"io.kubernetes.pod.namespace={NAMESPACE}",
        f"io.kubernetes.container.name={CONTAINER}",
    )
    words = [word for label in labels for word in ("--label", label)]
    asked = [CRICTL, "--runtime-endpoint", ENDPOINT, "ps", "--output", "json", "--state", "running"]
    told = _run(*asked, *words)
    if told.returncode:
        raise OSError(f"crictl: {told.stderr.strip()}")
    latest = (time.time() - BEGINS) * 1e9
    return any(
        int(one["createdAt"]) < latest for one in json.loads(told.stdout).get("containers") or ()
    )


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    """A command with what it says, in the C locale.

    :raises OSError: it can't be run, or does not end within `CALL_SECONDS`.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    path = f"{environment.get('PATH', '')}:{PLACES}".lstrip(":")
    try:
        return subprocess.run(
            argv,
            env={**environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{argv[0]} does not answer within {CALL_SECONDS:g} s") from error
