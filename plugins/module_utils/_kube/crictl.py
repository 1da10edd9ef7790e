# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""crictl out of the system image, for containers that are restarted.

The kubelet starts a container again that was stopped; its pod stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, owned
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import kubeadm_config

# For its start and its end, beside its own limit.
MARGIN = 15.0


@dataclass(frozen=True)
class Crictl:
    """*seconds*: the limit of a call. *binaries*: where crictl lies. *failed*: what to say then."""

    run: commands.Runner
    seconds: float
    binaries: Path = Path(owned.IMAGE) / "bin"
    failed: str = ""

    def __call__(self, *arguments: str, grace: int = 0) -> str:
        """What it prints. *grace*: seconds that containers have to end. Raises `CommandFailed`."""
        # Its own limit is 2 s, and ends the killing of a container too on a disk that is slow.
        limit = f"--timeout={self.seconds:g}s"
        program = [
            str(self.binaries / "crictl"),
            "--runtime-endpoint",
            kubeadm_config.CRI_SOCKET,
            limit,
        ]
        result = self.run([*program, *arguments], timeout=self.seconds + grace + MARGIN)
        return commands.check(result, self.failed or f"crictl {arguments[0]} failed").stdout

    def running(self, namespace: str, container: str) -> list[dict[str, Any]]:
        """The containers of that name that run in pods of *namespace*, as crictl lists them."""
        labels = {
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.container.name": container,
        }
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        listed = json.loads(self("ps", "--output", "json", "--state", "running", *words))
        found: list[dict[str, Any]] = listed.get("containers") or []
        return found

    def stop(self, containers: Iterable[str], grace: int) -> None:
        """Stop containers by id; those that have not ended after *grace* seconds are killed."""
        if ids := sorted(containers):
            self("stop", "--timeout", str(grace), *ids, grace=grace)
