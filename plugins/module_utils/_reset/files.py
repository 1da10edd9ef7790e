# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Files of ours go, and what they had replaced comes back."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic, owned
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._files import blocks
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before
from ansible_collections.kubewright.cluster.plugins.module_utils._machine.before import (
    Before,
    Machine,
)


@dataclass(frozen=True)
class Files:
    """The files of a machine that is reset. `before`: empty where there is no record.

    `keep`: paths that stay although a pattern names them: what this process runs from.
    """

    machine: Machine
    before: Before
    keep: frozenset[str] = frozenset()
    recorded: bool = True
    _known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", frozenset(self.before.paths))

    def changes(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What is to be done, in words, and how. Each is whole or not done when it is killed.

        What a directory holds goes before the directory; so ask again until nothing is left.
        """
        yield from self._hosts()
        for name in owned.FILES:
            yield from self._file(name)
        for name in owned.SHARED_FILES:
            path = self.machine.path(name)
            if self.recorded and name not in self._known and path.is_file():
                yield f"file {name}", path.unlink
        for name in owned.TREES:
            yield from self._tree(name)
        for directory, pattern in owned.PATTERNS:
            for path in sorted(self.machine.path(directory).glob(pattern)):
                if self.machine.name(path) not in self.keep:
                    yield self._words(path), self._remover(path)
        for name in owned.DIRECTORIES:
            path = self.machine.path(name)
            if self.recorded and name not in self._known and _is_empty(path):
                yield f"directory {name}", _remover_if_there(path)

    def _file(self, name: str) -> Iterator[tuple[str, Callable[[], None]]]:
        path, old = self.machine.path(name), self.before.files.get(name)
        _refuse_directory(path)
        # What a killed writer has left beside it.
        if (temporary := atomic.temporary_for(path)).exists():
            yield f"file {self.machine.name(temporary)}", temporary.unlink
        if old is None:
            if path.is_symlink() or path.exists():
                yield f"file {name}", path.unlink
        elif not path.is_file() or path.read_bytes() != before.content(old):
            yield f"file {name} (as it was before)", lambda: _restore(path, old)

    def _hosts(self) -> Iterator[tuple[str, Callable[[], None]]]:
        path, old = self.machine.path(owned.HOSTS), self.before.files.get(owned.HOSTS)
        try:
            now = path.read_bytes()
        except FileNotFoundError:
            return
        without = blocks.merge(str(path), now, owned.HOSTS_MARKER, b"")
        if without == now:
            return
        if not without and self.recorded and owned.HOSTS not in self._known:
            yield f"file {owned.HOSTS}", path.unlink
            return
        # The block may have had to end the line that was last before it.
        if old and without == before.content(old) + b"\n":
            without = before.content(old)
        # Where it is a link the file behind it is meant, as when the block came.
        target = path.resolve()
        status = target.stat()
        yield (
            f"block {owned.HOSTS_MARKER} in {owned.HOSTS}",
            lambda: atomic.write_file(
                target,
                without,
                mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
            ),
        )

    def _tree(self, name: str) -> Iterator[tuple[str, Callable[[], None]]]:
        path = self.machine.path(name)
        # A disk of its owner's is emptied, and stays.
        own_disk = name != owned.IMAGE and self.machine.name(path) in self.machine.mounts()
        if name not in self._known and not own_disk:
            if path.is_symlink() or path.exists():
                yield self._words(path), self._remover(path)
        elif path.is_dir():
            for entry in sorted(path.iterdir()):
                if f"{name}/{entry.name}" not in self._known and entry.name != "lost+found":
                    yield self._words(entry), self._remover(entry)

    def _remover(self, path: Path) -> Callable[[], None]:
        return lambda: remove(self.machine, path)

    def _words(self, path: Path) -> str:
        kind = "directory" if path.is_dir() and not path.is_symlink() else "file"
        return f"{kind} {self.machine.name(path)}"


def _restore(path: Path, old: dict[str, object]) -> None:
    atomic.make_directories(path.parent)
    mode, uid, gid = (int(str(old[key])) for key in ("mode", "uid", "gid"))
    atomic.write_file(path, before.content(old), mode=mode, uid=uid, gid=gid)


def _refuse_directory(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise KubewrightError(
            f"{path} is a directory where Kubewright writes a file. Move it away, then run it "
            "again."
        )


def remove(machine: Machine, path: Path) -> None:
    """Remove a file, a link or a directory with all that is in it.

    Raises `KubewrightError` where something is mounted in it: that is not ours to empty.
    """
    if path.is_symlink() or not path.is_dir():
        atomic.remove_if_there(path)
        return
    name = machine.name(path)
    if mounted := [point for point in machine.mounts() if owned.is_below(point, name)]:
        raise KubewrightError(
            f"{', '.join(mounted)}: mounted there, so {name} was not removed. Unmount "
            "it (`fuser -vm` shows who uses it), then run it again."
        )
    shutil.rmtree(path)


def _is_empty(path: Path) -> bool:
    """Ansible has its own files in some of these, and takes them away when it likes."""
    try:
        return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    except FileNotFoundError:
        return False


def _remover_if_there(path: Path) -> Callable[[], None]:
    def remove_it() -> None:
        with suppress(FileNotFoundError):
            path.rmdir()

    return remove_it
