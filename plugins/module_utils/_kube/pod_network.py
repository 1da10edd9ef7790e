# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether a node's pods have the network that its Node was given.

A Node that was deleted and registers again gets another pod network. flannel reads it at its start
alone, and the bridge ``cni0`` keeps the address that it has: new pods can't start, and those that
run reach nobody. The same where flannel has announced an address that the node has no more.

Where flannel does not run, nothing is said. Sources: flannel's annotations
(pkg/subnet/kube/annotations.go).
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import node_object
from ansible_collections.kubewright.cluster.plugins.module_utils._kube.crictl import Crictl
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import flannel

ANNOTATION = "flannel.alpha.coreos.com/"
CALL_SECONDS, POLL = 60.0, 0.5
FLANNEL_GRACE = 5


def reasons(node: Mapping[str, Any], address: str) -> list[str]:
    """What is wrong between the Node and this node, in words. *address*: the node's own."""
    return [*flannel_reasons(node, address), *bridge_reasons(node)]


def flannel_reasons(node: Mapping[str, Any], address: str) -> list[str]:
    """What flannel has to be started again for."""
    here, wanted = flannel.announced(), node_object.pod_networks_of(node)
    if not (here and wanted):
        return []
    told = node["metadata"].get("annotations") or {}
    if told.get(f"{ANNOTATION}kube-subnet-manager") != "true":
        return ["flannel has not announced this node to the others"]
    found = [
        f"flannel has {one}, but the Node's pod network is {', '.join(wanted)}"
        for one in here
        if one not in wanted
    ]
    public = told.get(f"{ANNOTATION}public-ip")
    if address and public != address and not told.get(f"{ANNOTATION}public-ip-overwrite"):
        found.append(f"flannel announces the address {public} instead of {address}")
    return found


def bridge_reasons(node: Mapping[str, Any]) -> list[str]:
    """Addresses of the bridge that are of another network."""
    wanted = node_object.pod_networks_of(node)
    if not (flannel.announced() and wanted):
        return []
    return [
        f"{flannel.BRIDGE} has {one}, but the Node's pod network is {', '.join(wanted)}"
        for one in flannel.strangers(wanted)
    ]


def forget(run: commands.Runner) -> None:
    """Take away what flannel and the bridge have of a Node that is gone, once no pod runs any more.

    The next Node has another pod network. A pod that starts before flannel has written it down
    would get an address of the old one, and the bridge with it.
    """
    flannel.SUBNETS.unlink(missing_ok=True)
    if any(name == flannel.BRIDGE for _, name in socket.if_nameindex()):
        _delete_bridge(run)


def _delete_bridge(run: commands.Runner) -> None:
    result = run(["ip", "link", "delete", flannel.BRIDGE], timeout=CALL_SECONDS)
    commands.check(result, f"{flannel.BRIDGE} could not be deleted")


@dataclass
class PodNetwork:
    """This node's. *see* reads the Node; *address*: the node's own; *seconds*: limit of a wait."""

    run: commands.Runner
    see: Callable[[], Mapping[str, Any]]
    address: str
    seconds: float = 120.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def converge(self, check_mode: bool) -> list[str]:
        """Bring it to what the Node says; gives what was wrong. Raises `KubewrightError`."""
        node = self.see()
        found = reasons(node, self.address)
        if check_mode:
            return found
        if flannel_reasons(node, self.address):
            self._restart_flannel()
        if bridge_reasons(node):
            self._renew_flannel(node_object.pod_networks_of(node))
        return found

    def _restart_flannel(self) -> None:
        """Have the kubelet start its container again, and wait until it has announced the node."""
        found = self.crictl.running("kube-flannel", "flannel")
        self.crictl.stop((one["id"] for one in found), FLANNEL_GRACE)
        end = self.clock() + self.seconds
        while left := flannel_reasons(self.see(), self.address):
            if self.clock() >= end:
                raise KubewrightError(
                    f"flannel was restarted, but after {self.seconds:g} s "
                    f"still: {'; '.join(left)}. See `kubectl --namespace kube-flannel "
                    "logs` of its pod on this node."
                )
            self.sleep(POLL)

    def _renew_flannel(self, networks: Sequence[str]) -> None:
        """Stop the pods of the old network, which the kubelet starts again; then the bridge goes.

        Last, since it is what tells the next run when this one is cut.
        """
        for sandbox in self.crictl("pods", "--quiet", "--state=ready").split():
            status = json.loads(self.crictl("inspectp", "--output=json", sandbox))["status"]
            network = status.get("network") or {}
            told = [network, *(network.get("additionalIps") or [])]
            addresses = [one["ip"] for one in told if one.get("ip")]
            if any(flannel.is_foreign(one, networks) for one in addresses) and not _of_host(status):
                self.crictl("stopp", sandbox)
        _delete_bridge(self.run)

    @property
    def crictl(self) -> Crictl:
        """The containers' tool."""
        return Crictl(self.run, CALL_SECONDS)


def _of_host(status: Mapping[str, Any]) -> bool:
    options = (((status.get("linux") or {}).get("namespaces") or {}).get("options")) or {}
    return bool(options.get("network") == "NODE")
