# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The static pods of a control plane, started again in good order.

A container that is stopped is started again by the kubelet, which takes about a second to see it;
its pod stays. etcd is none of them: it reads its certificates at each new connection.
(https://etcd.io/docs/latest/op-guide/security/)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import apiserver
from ansible_collections.kubewright.cluster.plugins.module_utils._kube.crictl import Crictl

API_SERVER = "kube-apiserver"
OTHERS = ("kube-controller-manager", "kube-scheduler")
# An API server says that it stops for 3 s, then ends what it is asked; its watches never end.
GRACE_SECONDS = 15
POLL = 0.5


@dataclass(frozen=True)
class StaticPods:
    """Those of this node, by crictl below *binaries*. *address*: where its API server listens.

    *timeout*: seconds for each of them to be there again.
    """

    run: commands.Runner
    binaries: Path
    address: str
    ca: Path
    timeout: float

    def restart(self, before: float) -> None:
        """Restart those that read files when they start, the API server first: the others ask it.

        Those that were started at *before* or later (seconds since 1970) go on. Returns when all of
        them run and the API server is ready, else `KubewrightError`.
        """
        old = {name: self._running(name, before) for name in (API_SERVER, *OTHERS)}
        self.crictl.stop(old[API_SERVER], GRACE_SECONDS)
        self._await_new(API_SERVER, old[API_SERVER])
        if not apiserver.wait_for_api(self.address, self.ca, self.timeout):
            raise KubewrightError(
                f"The API server of this node is not ready {self.timeout:g} s after "
                "it was restarted. See `crictl ps -a` and `crictl logs` there, then run "
                "it again. No other control plane was restarted."
            )
        for name in OTHERS:
            self.crictl.stop(old[name] & self._running(name), GRACE_SECONDS)
        for name in OTHERS:
            self._await_new(name, old[name])

    def _await_new(self, name: str, old: set[str]) -> None:
        end = time.monotonic() + self.timeout
        while not self._running(name) - old:
            if time.monotonic() >= end:
                raise KubewrightError(
                    f"{name} is not running {self.timeout:g} s after it was stopped. "
                    "The kubelet should start it: see `journalctl -u kubelet` and `crictl ps -a` "
                    "there."
                )
            time.sleep(POLL)

    def _running(self, name: str, before: float = float("inf")) -> set[str]:
        """The containers of *name* that run, and were started *before*."""
        containers = self.crictl.running("kube-system", name)
        return {one["id"] for one in containers if int(one["createdAt"]) / 1e9 < before}

    @property
    def crictl(self) -> Crictl:
        """The containers' tool."""
        failed = "the control plane's containers could not be restarted"
        return Crictl(self.run, self.timeout, self.binaries, failed)
