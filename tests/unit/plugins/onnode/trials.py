# SPDX-License-Identifier: Apache-2.0
"""A trial of a system image with a node and a clock that a test tells what to do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._image import images
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial, trial_node
from system_images import CONTENT, OTHER, bring

RunModule = Callable[..., dict[str, Any]]
ILL = "containerd.service is failed"


class Patient(trial_node.Node):
    """A node whose troubles are told in turn, the last one for good; it switches in process."""

    def __init__(self, *troubles: str) -> None:
        self.troubles = list(troubles)
        self.restarts = 0
        self.before_the_switch: Callable[[], object] = lambda: None

    def trouble(self, volume: Path, generation: int) -> str:
        return self.troubles.pop(0) if len(self.troubles) > 1 else self.troubles[0]

    def run(
        self, *argv: str, timeout: float = 0, pass_fds: Collection[int] = ()
    ) -> tuple[int, str]:
        assert argv[0] == "unshare" and len(pass_fds) == 1
        self.before_the_switch()
        return trial.main(list(argv[argv.index("switch") :])), ""

    def restart(self) -> str:
        self.restarts += 1
        return ""


class Time:
    """A clock that goes by what is slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def switched(volume: Path, run_module: RunModule) -> Path:
    """Make a second image active on a volume, which is then ordered to be tried."""
    bring(run_module, volume, CONTENT)
    assert trial.read_order(volume.parent) is None, "there is nothing to go back to"
    (volume / "active/configuration/file").write_text("old")
    bring(run_module, volume, OTHER)
    return volume


def attempt(place: Path, *troubles: str, **more: Any) -> trial.Trial:
    time = Time()
    """A trial on this node; its troubles are told in turn."""
    places = {"manifests": place / "manifests", "lock": place.parent / "run/node.lock"}
    made = {**places, "tell": lambda _: None, "boot": lambda: "1", **more}
    return trial.Trial(Patient(*troubles), place.parent, clock=time, sleep=time.sleep, **made)


def active(place: Path) -> tuple[str, str]:
    """The active image's digest, and its configuration."""
    found = images.Store(place).active()
    assert found is not None
    return found.digest, (place / "active/configuration/file").read_text()
