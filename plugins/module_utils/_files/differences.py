# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Files as a node should have them (`options`), compared byte by byte, and written.

`find` says what differs; `apply` writes just that. Nothing here trusts stamps: content, mode,
owner and group are read from the file system each time.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._files import blocks
from ansible_collections.kubewright.cluster.plugins.module_utils._files.options import Desired

SHOWN_BYTES = 64 * 1024


@dataclass(frozen=True)
class Change:
    """One difference: `data` is what to write (None when only attributes differ)."""

    desired: Desired
    before: bytes | None
    data: bytes | None
    attributes: tuple[str, str] = ("", "")

    @property
    def rewrites(self) -> bool:
        """Whether the path gets another mtime: not where only its mode or owner differ."""
        made_anew = self.attributes[0] == "absent\n" or self.desired.state in ("link", "absent")
        return made_anew or self.data is not None

    def reason(self) -> str:
        """What differs, in words, without any content."""
        old, new = (text.strip().replace("\n", ", ") for text in self.attributes)
        if old == "absent":
            return f"{self.desired.path} is missing"
        if new == "absent":
            return f"{self.desired.path} should not be there"
        said = [f"is {old} instead of {new}"] if new else []
        if self.data is not None and self.before is not None:
            said.append(self._content())
        return f"{self.desired.path} {' and '.join(said)}"

    def _content(self) -> str:
        """What differs in what the file has."""
        if self.desired.state != "block":
            return "has other content"
        block = f"block {self.desired.marker}"
        if not self.desired.data:
            return f"has the {block}, which should not be there"
        there = blocks.is_in(self.before or b"", self.desired.marker)
        return f"has another {block}" if there else f"lacks the {block}"

    def diff(self) -> dict[str, str]:
        """Ansible's diff of this change; of a secret it says only that it differs."""
        path = str(self.desired.path)
        before, after = "", ""
        if self.desired.state in ("file", "block") and self.data is not None:
            before = _shown(self.before, self.desired.secret)
            after = "(secret: the new content)\n" if self.desired.secret else _shown(self.data)
        elif self.desired.state == "absent":
            before = _shown(self.before, self.desired.secret)
        return {
            "before_header": path,
            "after_header": path,
            "before": self.attributes[0] + before,
            "after": self.attributes[1] + after,
        }


def find(entries: Sequence[Desired], refused: list[str] | None = None) -> list[Change]:
    """What differs between *entries* and the file system; nothing is written.

    Raises `KubewrightError` for what a person has to mend, or adds it to *refused* and goes on.
    """
    entries = [*entries, *_foreign(entries)]
    gone = frozenset(entry.path for entry in entries if entry.state == "absent")
    changes = []
    for entry in entries:
        try:
            change = pending(entry, gone)
        except KubewrightError as error:
            if refused is None:
                raise
            refused.append(str(error))
        else:
            changes += [change] if change else []
    return changes


def _foreign(entries: Sequence[Desired]) -> list[Desired]:
    """What lies in exclusive directories, at any depth, and is not listed: it should be absent."""
    listed = {entry.path for entry in entries}
    found: set[Path] = set()
    for entry in entries:
        if entry.exclusive and not entry.path.is_symlink():
            for place, directories, files in os.walk(entry.path):
                links = [name for name in directories if Path(place, name).is_symlink()]
                names = fnmatch.filter([*files, *links], entry.exclusive)
                found.update(Path(place, name) for name in names)
    return [Desired(path, "absent") for path in sorted(found - listed)]


def pending(desired: Desired, gone: frozenset[Path] = frozenset()) -> Change | None:
    """What differs between *desired* and the file system, None when nothing does.

    *gone*: paths that the same list removes, so that a directory may go with all that is in it.
    """
    path = desired.path
    try:
        found = (path.stat() if desired.state == "block" else path.lstat()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        found = 0
    _refuse_wrong_kind(desired, found, gone)
    if desired.state == "absent":
        if not found:
            return None
        before = path.read_bytes() if stat.S_ISREG(found) else None
        return Change(desired, before, None, (f"{_kind(found)}\n", "absent\n"))
    if desired.state == "link":
        old = f"link to {path.readlink()}\n" if stat.S_ISLNK(found) else f"{_kind(found)}\n"
        new = f"link to {desired.src}\n"
        return None if old == new else Change(desired, None, None, (old, new))
    if not found:
        attributes = ("absent\n", f"{desired.state if desired.state == 'directory' else 'file'}\n")
        data = desired.data if desired.state != "directory" else None
        if desired.state == "block" and not data:
            return None
        return Change(desired, None, data, attributes)
    if stat.S_ISLNK(found):  # a file is wanted: the link is replaced, not followed
        return Change(desired, None, desired.data, (f"link to {path.readlink()}\n", "file\n"))
    return _difference(desired)


def _difference(desired: Desired) -> Change | None:
    data = before = None
    if desired.state != "directory":
        before = desired.path.read_bytes()
        wanted = desired.data
        if desired.state == "block":
            wanted = blocks.merge(str(desired.path), before, desired.marker, desired.data)
        if desired.digest:
            same = hashlib.sha256(before).hexdigest() == desired.digest
        else:
            same = wanted == before
        data = None if same else wanted
    status = desired.path.stat()
    old, new = "", ""
    if desired.mode is not None and stat.S_IMODE(status.st_mode) != desired.mode:
        old += f"mode {stat.S_IMODE(status.st_mode):04o}\n"
        new += f"mode {desired.mode:04o}\n"
    if desired.uid is not None and status.st_uid != desired.uid:
        old, new = f"{old}owner {status.st_uid}\n", f"{new}owner {desired.uid}\n"
    if desired.gid is not None and status.st_gid != desired.gid:
        old, new = f"{old}group {status.st_gid}\n", f"{new}group {desired.gid}\n"
    if data is None and not new:
        return None
    return Change(desired, before, data, (old, new))


def _refuse_wrong_kind(desired: Desired, found: int, gone: frozenset[Path]) -> None:
    path, state = desired.path, desired.state
    if state == "absent":
        if stat.S_ISDIR(found) and not gone.issuperset(path.iterdir()):
            raise KubewrightError(
                f"{path} is a directory that is not empty; list its content "
                "as absent before it, or remove it by hand."
            )
    elif state == "directory":
        if found and not stat.S_ISDIR(found):
            raise KubewrightError(f"{path} should be a directory but is a {_kind(found)}; move it.")
    elif found and not (stat.S_ISREG(found) or stat.S_ISLNK(found)):
        raise KubewrightError(f"{path} should be a {state} but is a {_kind(found)}; move it away.")


def apply(changes: Iterable[Change]) -> None:
    """Write *changes* in order; each is whole or not there, directories are synced at the end."""
    touched: list[Path] = []
    for change in changes:
        desired = change.desired
        try:
            # An earlier entry may have written another block of the same file.
            current = pending(desired) if desired.state == "block" else change
            if current:
                _apply_one(current)
        except OSError as error:
            raise KubewrightError(
                f"{desired.path} could not be created: {error.strerror or error}. "
                "Files written before it stay; fix the cause and run it again."
            ) from error
        touched.append(_target(desired).parent)
    atomic.fsync_directories(touched)


def _target(desired: Desired) -> Path:
    """Where to write: a block follows a link, the file is someone else's."""
    return desired.path.resolve() if desired.state == "block" else desired.path


def _apply_one(change: Change) -> None:
    desired, path = change.desired, _target(change.desired)
    if desired.state == "absent":
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            atomic.remove_if_there(path)
        return
    atomic.make_directories(path if desired.state == "directory" else path.parent)
    if desired.state == "link":
        atomic.replace_link(path, desired.src, sync_directory=False)
    elif change.data is not None:
        mode, uid, gid = desired.mode, desired.uid, desired.gid
        if desired.state == "block":  # keep what the owner of the file chose
            status = path.stat() if path.exists() else None
            mode = mode if mode is not None else stat.S_IMODE(status.st_mode) if status else 0o644
            uid = uid if uid is not None else status.st_uid if status else -1
            gid = gid if gid is not None else status.st_gid if status else -1
        assert mode is not None
        atomic.write_file(
            path,
            change.data,
            mode=mode,
            uid=-1 if uid is None else uid,
            gid=-1 if gid is None else gid,
            sync_directory=False,
        )
    else:
        os.chown(path, *(-1 if number is None else number for number in (desired.uid, desired.gid)))
        if desired.mode is not None:
            path.chmod(desired.mode)


def _kind(mode: int) -> str:
    if not mode:
        return "absent"
    names = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return names.get(stat.S_IFMT(mode), "special file")


def _shown(data: bytes | None, secret: bool = False) -> str:
    if data is None:
        return ""
    if secret:
        return "(secret: the old content)\n"
    try:
        if len(data) <= SHOWN_BYTES and b"\0" not in data:
            return data.decode()
    except UnicodeDecodeError:
        pass
    return f"({len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()})\n"
