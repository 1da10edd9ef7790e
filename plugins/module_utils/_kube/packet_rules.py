# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Packet rules of kube-proxy and flannel, where others flush them.

``nft flush ruleset`` is what a restart of nftables.service begins with. kube-proxy writes its rules
again when a Service changes, or after an hour; flannel when it starts, and never else. Sources:
pkg/proxy/nftables/proxier.go of Kubernetes, pkg/trafficmngr/nftables of flannel.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, crictl
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import flannel

#: Where kube-proxy says on the node's loopback how it works.
PROXY = ("127.0.0.1", 10249)
#: Always there, and always with endpoints: whose rules are there has those of this Service.
SERVICE = "/api/v1/namespaces/default/services/kubernetes"
ASK_SECONDS, CALL_SECONDS, POLL = 2.0, 60.0, 0.5
#: Seconds that a container has to end.
GRACE = 5


@dataclass(frozen=True)
class Owner:
    """A container and its rules: *question* is asked of nft, whose answer has to hold *answer*."""

    container: str
    namespace: str
    question: str
    answer: str


FLANNEL = Owner(flannel.CONTAINER, flannel.NAMESPACE, flannel.RULES, flannel.MASQUERADE)


def kube_proxy(service: str) -> Owner:
    """kube-proxy, in a cluster where the API has the address *service*."""
    element = f"get element ip kube-proxy service-ips {{ {service} . tcp . 443 }}"
    question = f"list chain ip kube-proxy services; {element}"
    return Owner("kube-proxy", "kube-system", question, "vmap @service-ips")


@dataclass
class PacketRules:
    """Those of this node. *owners*: who should have some; *seconds*: limit of a wait."""

    run: commands.Runner
    owners: Sequence[Owner]
    seconds: float = 120.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def converge(self, check_mode: bool) -> list[str]:
        """Have those written again that are gone; gives what was wrong.

        :raises KubewrightError: they did not come back.
        """
        gone = {one: self._containers(one) for one in self.owners if not self._written(one)}
        # Somebody's own flannel is not ours to judge: its container has another name.
        gone = {owner: containers for owner, containers in gone.items() if containers}
        if not check_mode:
            self._restart(gone)
        return [
            f"the packet rules of {owner.container} are missing; it will be restarted to write them"
            for owner in gone
        ]

    def _written(self, owner: Owner) -> bool:
        result = self.run(["nft", owner.question], timeout=CALL_SECONDS)
        if result.rc and flannel.ABSENT in result.stderr:
            return False
        return owner.answer in commands.check(result, "Listing nftables failed").stdout

    def _containers(self, owner: Owner) -> list[str]:
        """Those that run for long enough to have written rules."""
        latest = (time.time() - flannel.BEGINS) * 1e9
        running = self._crictl.running(owner.namespace, owner.container)
        return [str(one["id"]) for one in running if int(one["createdAt"]) < latest]

    def _restart(self, gone: dict[Owner, list[str]]) -> None:
        """Have the kubelet start the containers again, and wait for their rules."""
        self._crictl.stop((one for ids in gone.values() for one in ids), GRACE)
        end = self.clock() + self.seconds
        while left := [owner for owner in gone if not self._written(owner)]:
            if self.clock() >= end:
                raise KubewrightError(_still_gone(left, self.seconds))
            self.sleep(POLL)

    @property
    def _crictl(self) -> crictl.Crictl:
        return crictl.Crictl(self.run, CALL_SECONDS)


def of(run: commands.Runner, api: client.Api, seconds: float = 120.0) -> PacketRules:
    """Those of a node. kube-proxy may work another way, and flannel may not run at all."""
    owners = []
    if _proxy_mode() == "nftables":
        service = api.get(SERVICE)
        owners += [kube_proxy(service["spec"]["clusterIP"])] if service else []
    if flannel.announced():
        owners.append(FLANNEL)
    return PacketRules(run, owners, seconds)


def _still_gone(left: Sequence[Owner], seconds: float) -> str:
    names = " and ".join(owner.container for owner in left)
    logs = " and ".join(
        f"`kubectl -n {owner.namespace} logs` of the pod of {owner.container} on this node"
        for owner in left
    )
    return (
        f"The packet rules of {names} are still missing {seconds:g} s after a restart. See {logs}."
    )


def _proxy_mode() -> str:
    """kube-proxy's own word for it; empty where it does not run or says nothing."""
    connection = http.client.HTTPConnection(*PROXY, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/proxyMode")
        return connection.getresponse().read(100).decode("ascii", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
