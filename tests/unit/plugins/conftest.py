# SPDX-License-Identifier: Apache-2.0
"""The checkout as the collection kubewright.cluster, and modules run as Ansible runs them."""

from __future__ import annotations

import importlib
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils.testing import patch_module_args
from real_ansible import Ansible

CHECKOUT = Path(__file__).resolve().parents[3]
COLLECTION = "ansible_collections.kubewright.cluster.plugins"


def link_collection(root: Path) -> Path:
    """Make *root* a place where the checkout is the collection, first on its package's path."""
    place = root / "ansible_collections" / "kubewright"
    place.mkdir(parents=True)
    (place / "cluster").symlink_to(CHECKOUT)
    try:
        package = importlib.import_module("ansible_collections")
    except ImportError:  # ansible-core without the ansible package
        package = ModuleType("ansible_collections")
        package.__path__ = []
        sys.modules["ansible_collections"] = package
    package.__path__ = [str(root / "ansible_collections"), *package.__path__]
    return root


# Goes with the interpreter; a link is removed, not what it points to.
TEMPORARY = tempfile.TemporaryDirectory(prefix="kubewright-collections-")
COLLECTIONS_PATH = link_collection(Path(TEMPORARY.name))


@pytest.fixture(scope="session")
def collections_path() -> Path:
    """For ``ANSIBLE_COLLECTIONS_PATH``."""
    return COLLECTIONS_PATH


@pytest.fixture
def ansible(tmp_path: Path, collections_path: Path) -> Ansible:
    """A real one, in the test's directory."""
    return Ansible(tmp_path, collections_path)


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's own directory for lock and epoch, so that tests do not write to this machine's."""
    fence = importlib.import_module(f"{COLLECTION}.module_utils._fence.fencing")
    root = tmp_path / "node"
    monkeypatch.setattr(fence, "LOCK_DIRECTORY", root / "run")
    claims = importlib.import_module(f"{COLLECTION}.module_utils._cluster.claims")
    monkeypatch.setattr(claims, "EPOCH_PATH", root / "var" / "epoch")
    # What was before is looked up on the whole machine: it takes longer than all else.
    before = importlib.import_module(f"{COLLECTION}.module_utils._machine.before")
    monkeypatch.setattr(before, "look", lambda _machine: before.Before())
    return root


RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module's ``main`` with arguments, as JSON in and out, like Ansible does."""

    def run(name: str, /, *, check: bool = False, diff: bool = True, **arguments: Any) -> Any:
        module = importlib.import_module(f"{COLLECTION}.modules.{name}")
        internal = {"_ansible_check_mode": check, "_ansible_diff": diff}
        capsys.readouterr()
        with patch_module_args({**arguments, **internal}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A directory for files."""
    path = tmp_path / "etc"
    path.mkdir()
    return path


class Fake:
    """A `Runner` that answers with a function of the argument list and remembers the calls."""

    def __init__(self, answer: Callable[[list[str]], tuple[int, str, str]]) -> None:
        self.answer = answer
        self.calls: list[list[str]] = []

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> Any:
        command = importlib.import_module(f"{COLLECTION}.module_utils._base.commands")
        self.calls.append(list(argv))
        return command.Result(tuple(argv), *self.answer(list(argv)))


@pytest.fixture
def fake_runner() -> type[Fake]:
    """The class `Fake`."""
    return Fake


# What changes a file system; a kill is possible before each call.
STEPS = (
    "write",
    "fsync",
    "rename",
    "unlink",
    "symlink",
    "mkdir",
    "rmdir",
    "chmod",
    "fchmod",
    "fchown",
    "ftruncate",
    "posix_fallocate",
)


def killed_before(step: int, action: Callable[[], object]) -> bool:
    """Run *action* in a child that is killed before its n-th change of the file system.

    False when the child finished because it has fewer changes than that.
    """
    child = os.fork()
    if child == 0:
        left = [step]
        patches = [mock.patch.object(os, name, _counting(name, left)) for name in STEPS]
        for patch in patches:
            patch.start()
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the action failed by itself"
    return False


def _counting(name: str, left: list[int]) -> Callable[..., Any]:
    real = getattr(os, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*args, **kwargs)

    return counted


@pytest.fixture
def every_kill() -> Callable[[Callable[[], object]], Iterator[int]]:
    """Iterate over all points at which *action* can be killed; the body checks what is left."""

    def points(action: Callable[[], object]) -> Iterator[int]:
        step = 0
        while killed_before(step, action):
            yield step
            step += 1
        assert step > 0, "the action changed nothing"

    return points


@pytest.fixture
def any_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any bytes are an image for this node: what one is for is looked at elsewhere."""
    manifests = importlib.import_module(f"{COLLECTION}.module_utils._image.manifests")
    formats = importlib.import_module(f"{COLLECTION}.module_utils._cluster.image_format")
    here = formats.ARCHITECTURES.get(platform.machine(), platform.machine())
    manifest = manifests.Manifest("1.37.2", 1, here, "worker")
    monkeypatch.setattr(manifests, "read", lambda *_: manifest)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_image: None) -> Path:
    """A directory that counts as the mounted volume."""
    path = tmp_path / "system"
    path.mkdir()
    images = importlib.import_module(f"{COLLECTION}.module_utils._image.images")
    monkeypatch.setattr(images.Store, "is_mounted", lambda store: store.volume == path)
    return path
