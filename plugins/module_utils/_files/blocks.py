# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A marked block in a text file that others own. Pure."""

from __future__ import annotations

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError


def render(marker: str, content: bytes) -> bytes:
    """*content* between its marker lines; nothing when *content* is empty (the block goes)."""
    if not marker.isprintable() or marker != marker.strip():
        raise KubewrightError(
            f"marker {marker!r} must be one line without leading or trailing spaces."
        )
    if not content:
        return b""
    begin, end = _lines(marker)
    body = content if content.endswith(b"\n") else content + b"\n"
    if any(line in (begin, end) for line in body.splitlines()):
        raise KubewrightError(f"The content of block {marker!r} contains its own marker line.")
    return begin + b"\n" + body + end + b"\n"


def merge(path: str, text: bytes, marker: str, block: bytes) -> bytes:
    """*text* with the block of *marker* replaced by *block* (from `render`) or appended.

    *path* is for messages. Raises `KubewrightError` when the marker lines in *text* do not form
    exactly one block: then nobody can say which lines are ours.
    """
    begin, end = _lines(marker)
    lines = text.splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if line.rstrip() == begin]
    ends = [number for number, line in enumerate(lines) if line.rstrip() == end]
    if not begins and not ends:
        if not block:
            return text
        return text + (b"" if not text or text.endswith(b"\n") else b"\n") + block
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise KubewrightError(
            f"{path}: the lines {begin.decode()!r} and {end.decode()!r} must appear once each, "
            f"in this order, but appear {len(begins)} and {len(ends)} times. Fix the file "
            "by hand: leave one pair, or none."
        )
    return b"".join(lines[: begins[0]]) + block + b"".join(lines[ends[0] + 1 :])


def is_in(text: bytes, marker: str) -> bool:
    """Whether *text* has the line that begins the block of *marker*."""
    begin, _ = _lines(marker)
    return any(line.rstrip() == begin for line in text.splitlines())


def _lines(marker: str) -> tuple[bytes, bytes]:
    return f"# BEGIN kubewright {marker}".encode(), f"# END kubewright {marker}".encode()
