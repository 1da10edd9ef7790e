# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: files as a node should have them, compared byte by byte.

`parse` turns a module's options into `Desired` entries and refuses contradictions before anything
is written; `pending` says what differs; `apply` writes just that. Nothing here trusts stamps:
content, mode, owner and group are read from the file system each time.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _atomic, _block
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

DEFAULT_MODES = {"file": 0o644, "block": 0o644, "directory": 0o755}
SHOWN_BYTES = 64 * 1024


@dataclass(frozen=True)
class Desired:
    """One path as it should be. `data` is set for file and block, `src` for link.

    For a block `mode`, `uid` and `gid` are None unless the user gave them: the file is someone
    else's. `digest`: SHA-256 of the content in hex, instead of `data`: to compare, not to write.
    `exclusive`: of a directory, the names in it that are for listed entries alone, as a pattern.
    """

    path: Path
    state: str
    data: bytes = b""
    src: str = ""
    marker: str = ""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    secret: bool = False
    digest: str = ""
    exclusive: str = ""


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
            return "has another content"
        block = f"block {self.desired.marker}"
        if not self.desired.data:
            return f"has the {block}, which should not be there"
        there = _block.is_in(self.before or b"", self.desired.marker)
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


def parse(
    files: Sequence[Mapping[str, Any]],
    secrets: Mapping[str, Any],
    digests: Mapping[str, str] | None = None,
) -> list[Desired]:
    """The options ``files`` and ``secrets`` of ``node_files`` as `Desired` entries, in order.

    *digests* stands for *secrets* where nothing will be written: path to SHA-256 in hex.
    Raises `KubewrightError` for the first entry that contradicts itself or another one.
    """
    entries = [_parse_one(item, secrets, digests or {}) for item in files]
    seen: set[tuple[Path, str]] = set()
    whole: set[Path] = set()
    for entry in entries:
        key = (entry.path, entry.marker)
        if key in seen or entry.path in whole:
            raise KubewrightError(f"{entry.path} is listed twice; say once what it should be.")
        seen.add(key)
        if entry.state != "block":
            if any(path == entry.path for path, _marker in seen - {key}):
                raise KubewrightError(f"{entry.path} is listed twice; say once what it should be.")
            whole.add(entry.path)
    unused = set(map(str, secrets)) - {str(entry.path) for entry in entries if entry.secret}
    if unused:
        raise KubewrightError(
            f"secrets has {', '.join(sorted(unused))}, but no entry of files with that path and "
            "secret: true."
        )
    return entries


def _parse_one(
    item: Mapping[str, Any], secrets: Mapping[str, Any], digests: Mapping[str, str]
) -> Desired:
    path, state = Path(item["path"]), item.get("state") or "file"
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        raise KubewrightError(f"{path}: a path must be absolute, without '..', and not '/'.")
    content, encoded = item.get("content"), item.get("content_b64")
    secret, marker = bool(item.get("secret")), item.get("marker") or ""
    given = [name for name in ("content", "content_b64") if item.get(name) is not None]
    data = b""
    if state in ("file", "block"):
        if secret:
            known = str(path) in secrets or str(path) in digests
            if given or state == "block" or not known:
                raise KubewrightError(
                    f"{path}: a secret is a file whose text is in secrets[{str(path)!r}]; "
                    "content, content_b64 and state: block are logged and not for it."
                )
            data = str(secrets.get(str(path), "")).encode()
        elif len(given) != 1:
            raise KubewrightError(f"{path}: give exactly one of content and content_b64.")
        elif encoded is not None:
            data = _decode(path, encoded)
        else:
            data = str(content).encode()
    elif given:
        raise KubewrightError(f"{path}: {given[0]} is for state file and block, not {state}.")
    if (state == "link") != bool(item.get("src")):
        raise KubewrightError(f"{path}: src is for state link, and a link needs it.")
    if (state == "block") != bool(marker):
        raise KubewrightError(f"{path}: marker is for state block, and a block needs it.")
    if state != "directory" and item.get("exclusive"):
        raise KubewrightError(f"{path}: exclusive is for state directory, not {state}.")
    if state == "block":
        data = _block.render(marker, data)
    plain = state in ("file", "directory")
    owner = item.get("owner") or ("root" if plain else None)
    group = item.get("group") or ("root" if plain else None)
    mode = item.get("mode")
    return Desired(
        path=path,
        state=state,
        data=data,
        src=item.get("src") or "",
        marker=marker,
        mode=_mode(path, mode) if mode else (DEFAULT_MODES[state] if plain else None),
        uid=None if owner is None else _user(path, owner),
        gid=None if group is None else _group(path, group),
        secret=secret,
        digest=digests.get(str(path), "") if secret else "",
        exclusive=item.get("exclusive") or "",
    )


def _decode(path: Path, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise KubewrightError(f"{path}: content_b64 is not base64: {error}.") from error


def _mode(path: Path, text: str) -> int:
    try:
        mode = int(str(text), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise KubewrightError(f"{path}: mode {text!r} is not octal text such as '0644'.")
    return mode


def _user(path: Path, name: str) -> int:
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise KubewrightError(f"{path}: this node has no user {name!r}; make it first.") from error


def _group(path: Path, name: str) -> int:
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise KubewrightError(f"{path}: this node has no group {name!r}; make it first.") from error


def differences(entries: Sequence[Desired], refused: list[str] | None = None) -> list[Change]:
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
            wanted = _block.merge(str(desired.path), before, desired.marker, desired.data)
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
                f"{path} is a directory that is not empty; list what is in it as absent "
                "before it, or remove it by hand."
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
                f"{desired.path} could not be made: {error.strerror or error}. What was written "
                "before it stays; run again when the cause is gone."
            ) from error
        touched.append(_target(desired).parent)
    _atomic.fsync_directories(touched)


def _target(desired: Desired) -> Path:
    """Where to write: a block follows a link, the file is someone else's."""
    return desired.path.resolve() if desired.state == "block" else desired.path


def _apply_one(change: Change) -> None:
    desired, path = change.desired, _target(change.desired)
    if desired.state == "absent":
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            _atomic.remove_if_there(path)
        return
    _atomic.make_directories(path if desired.state == "directory" else path.parent)
    if desired.state == "link":
        _atomic.replace_link(path, desired.src, sync_directory=False)
    elif change.data is not None:
        mode, uid, gid = desired.mode, desired.uid, desired.gid
        if desired.state == "block":  # keep what the owner of the file chose
            status = path.stat() if path.exists() else None
            mode = mode if mode is not None else stat.S_IMODE(status.st_mode) if status else 0o644
            uid = uid if uid is not None else status.st_uid if status else -1
            gid = gid if gid is not None else status.st_gid if status else -1
        assert mode is not None
        _atomic.write_file(
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
