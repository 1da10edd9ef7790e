# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: the static pods of a control plane, started again in good order.

A container that is stopped is started again by the kubelet, which takes about a second to see it;
its pod stays. etcd is none of them: it reads its certificates at each new connection.
(https://etcd.io/docs/latest/op-guide/security/)
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils import _command, _kubeadm, _node
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

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

    run: _command.Runner
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
        self._stop(old[API_SERVER])
        self._await_new(API_SERVER, old[API_SERVER])
        if not _node.wait_for_api(self.address, self.ca, self.timeout):
            raise KubewrightError(
                f"The API server of this node is not ready {self.timeout:g} s after it was "
                "restarted. `crictl ps -a` and `crictl logs` there tell why; then run the same "
                "again. No other control plane was restarted."
            )
        for name in OTHERS:
            self._stop(old[name] & self._running(name))
        for name in OTHERS:
            self._await_new(name, old[name])

    def _await_new(self, name: str, old: set[str]) -> None:
        end = time.monotonic() + self.timeout
        while not self._running(name) - old:
            if time.monotonic() >= end:
                raise KubewrightError(
                    f"{name} does not run again {self.timeout:g} s after it was stopped. The "
                    "kubelet starts it: `journalctl -u kubelet` and `crictl ps -a` there tell why."
                )
            time.sleep(POLL)

    def _running(self, name: str, before: float = float("inf")) -> set[str]:
        """The containers of *name* that run, and were started *before*."""
        labels = {
            "io.kubernetes.pod.namespace": "kube-system",
            "io.kubernetes.container.name": name,
        }
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        listed = self._crictl("ps", "--output", "json", "--state", "running", *words)
        containers = json.loads(listed.stdout).get("containers") or []
        return {one["id"] for one in containers if int(one["createdAt"]) / 1e9 < before}

    def _stop(self, containers: set[str]) -> None:
        if containers:
            self._crictl("stop", "--timeout", str(GRACE_SECONDS), *sorted(containers))

    def _crictl(self, *arguments: str) -> _command.Result:
        crictl = str(self.binaries / "crictl")
        # Its own limit is 2 s, and ends the killing of a container too on a disk that is slow.
        limit = f"--timeout={self.timeout:g}s"
        command = [crictl, "--runtime-endpoint", _kubeadm.CRI_SOCKET, limit, *arguments]
        result = self.run(command, timeout=self.timeout + GRACE_SECONDS + 1)
        return _command.check(result, "the control plane's containers could not be restarted")
