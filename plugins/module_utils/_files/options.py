# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The section ``files`` of a role's document: what a path should be.

`parse` turns its entries into `Desired` ones, and refuses contradictions before anything is
written. An entry has ``path``, absolute on the node, and

    state      file       a regular file with just this content; a link in its place is replaced
               block      a marked part of a text file that others own, such as /etc/hosts; the rest
                          is left alone. An empty content removes it
               link       a symbolic link to ``src``
               directory  what is in it is not looked at, except with ``exclusive``
               absent     no file, no link, no empty directory
    content, content_b64  text, or bytes in base64, of a file or block; it is logged
    secret     true: the content is told apart, by path, and shown nowhere
    mode       octal text; 0644 for a file and 0755 for a directory by default
    owner, group          names or numbers; root by default for a file or directory
    exclusive  a pattern of names: files and links in the directory or below it that have such a
               name are removed, unless they are listed
    marker     of a block: it stands between the lines ``# BEGIN kubewright <marker>`` and ``# END``

Missing parent directories are made with mode 0755.
"""

from __future__ import annotations

import base64
import binascii
import grp
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._files import blocks

DEFAULT_MODES = {"file": 0o644, "block": 0o644, "directory": 0o755}


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


def parse(
    files: Sequence[Mapping[str, Any]],
    secrets: Mapping[str, Any],
    digests: Mapping[str, str] | None = None,
) -> list[Desired]:
    """A document's ``files``, and the ``secrets`` of them by path, as `Desired` entries, in order.

    *digests* stands for *secrets* where nothing will be written: path to SHA-256 in hex.
    Raises `KubewrightError` for the first entry that contradicts itself or another one.
    """
    entries = [_parse_one(item, secrets, digests or {}) for item in files]
    seen: set[tuple[Path, str]] = set()
    whole: set[Path] = set()
    for entry in entries:
        key = (entry.path, entry.marker)
        if key in seen or entry.path in whole:
            raise KubewrightError(f"{entry.path} is listed twice; list it once.")
        seen.add(key)
        if entry.state != "block":
            if any(path == entry.path for path, _marker in seen - {key}):
                raise KubewrightError(f"{entry.path} is listed twice; list it once.")
            whole.add(entry.path)
    unused = set(map(str, secrets)) - {str(entry.path) for entry in entries if entry.secret}
    if unused:
        raise KubewrightError(
            f"secrets has {', '.join(sorted(unused))}, but no entry of files has that "
            "path and secret: true."
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
                    f"{path}: put the text of a secret into "
                    f"secrets[{str(path)!r}]; content, content_b64 and state: block are logged."
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
        raise KubewrightError(f"{path}: exclusive is only for state directory, not {state}.")
    if state == "block":
        data = blocks.render(marker, data)
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
        raise KubewrightError(
            f"{path}: this node has no user {name!r}; create it first."
        ) from error


def _group(path: Path, name: str) -> int:
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise KubewrightError(
            f"{path}: this node has no group {name!r}; create it first."
        ) from error
