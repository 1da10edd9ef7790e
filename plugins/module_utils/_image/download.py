# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Files from an HTTP server, with what is there already kept.

Addresses are checked and shown without what may be a secret. A server's certificate is verified
by what the machine trusts. Nothing here says whether the bytes are right: that is their hash's.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

# A server that says nothing for so long is given up; one that is only slow is not.
SILENCE_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
# A connection that was cut is made anew as long as each has brought at least this much.
PROGRESS_BYTES = 1 << 20
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class NotThere(KubewrightError):
    """The server does not have the file."""


class _Cut(Exception):
    """The connection ended before the file did; the text says how."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Never from https to something weaker."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See `urllib.request.HTTPRedirectHandler`."""
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("https", req.type):
            raise KubewrightError(
                f"{shown(req.full_url)} redirects to {shown(newurl)}, which is refused: "
                f"{req.type} may redirect only to https or {req.type}. Give the URL of the server "
                "that has the images."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_url(base: str) -> str:
    """*base*, the address that a file's name is put behind, without slashes at its end.

    Raises `KubewrightError` for what is none. Of a bad one that may hold a password nothing is
    repeated.
    """
    try:
        parts = urllib.parse.urlsplit(base)
        good = parts.scheme in ("http", "https") and parts.hostname
        secret = parts.username is not None or parts.query or parts.fragment
    except ValueError:
        good, secret = None, None
    if not good or secret:
        raise KubewrightError(
            "The image server's URL must be http://HOST[:PORT]/PATH or https://..., "
            "without user, password, query and fragment, since URLs appear in logs. "
            "Images are not secret; their signatures protect them."
        )
    return base.rstrip("/")


def shown(url: str) -> str:
    """*url* without user, password, query and fragment."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def small(url: str, limit: int) -> bytes:
    """The file at *url*, of *limit* bytes at most. Raises `NotThere`, `KubewrightError`."""
    try:
        with _open(url, 0) as response:
            found = _read(response, limit + 1)
    except _Cut as cut:
        raise KubewrightError(f"{shown(url)} was interrupted: {cut}. Run it again.") from cut
    if len(found) > limit:
        raise KubewrightError(f"{shown(url)} has more than {limit} bytes: it is something else.")
    return found


def into(url: str, path: Path, room: Callable[[int], None]) -> int:
    """Bring the file at *url* to *path*, after what is in it already; gives the whole length.

    *room* is called with the number of bytes that are to come, and raises where they don't fit.
    Raises `NotThere`, `KubewrightError`. Whatever it raises, *path* has a beginning of the file,
    which the next call goes on from.
    """
    while True:
        before = path.stat().st_size
        try:
            return _stream(url, path, room)
        except _Cut as cut:
            there = path.stat().st_size
            if there - before < PROGRESS_BYTES:
                raise KubewrightError(
                    f"The transfer of {shown(url)} was interrupted after {there} "
                    f"bytes: {cut}. They are kept: run it again, and the download resumes."
                ) from cut


def _stream(url: str, path: Path, room: Callable[[int], None]) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        with _open(url, os.lseek(fd, 0, os.SEEK_END)) as response:
            done, whole = _place(response, url, os.lseek(fd, 0, os.SEEK_CUR))
            os.ftruncate(fd, done)
            os.lseek(fd, done, os.SEEK_SET)
            room(whole - done)
            while done < whole and (chunk := _read(response, min(CHUNK_BYTES, whole - done))):
                _write(fd, chunk, path, whole - done)
                done += len(chunk)
    finally:
        os.close(fd)
    if done < whole:
        raise _Cut(f"the server closed the connection, but {whole} bytes were expected")
    return whole


def _write(fd: int, chunk: bytes, path: Path, left: int) -> None:
    try:
        atomic.write_all(fd, chunk)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            error.filename = error.filename or str(path)
            raise
        raise KubewrightError(
            f"The disk is full: {path.parent} has no room for the last {left} bytes of the "
            "image. What has arrived is kept. Remove unused images (kubewright node image "
            "gc), or make the volume larger; then run it again, and the download resumes."
        ) from error


def _place(response: Any, url: str, asked: int) -> tuple[int, int]:
    """Where in the file the response begins, and the file's whole length."""
    if response.status == http.client.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found and int(found[1]) == asked:
            return asked, int(found[2])
    elif (length := response.headers.get("Content-Length") or "").isdigit():
        return 0, int(length)
    raise KubewrightError(
        f"{shown(url)}: the server does not report the file's size, or sends a different "
        "part than requested. Use a server of plain files."
    )


@contextmanager
def _open(url: str, start: int) -> Iterator[Any]:
    """The response from byte *start* on; where the file has no more than that, a whole one."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    trust = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    # A proxy that is set for users of the machine often knows no inner server, and this is one.
    direct = urllib.request.ProxyHandler({})
    opener = urllib.request.build_opener(_Redirects(), trust, direct)
    try:
        response = opener.open(request, timeout=SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                response = None
            else:
                raise _refusal(url, error.code) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    if response is None:
        with _open(url, 0) as response:
            yield response
        return
    with response:
        yield response


def _read(response: Any, size: int) -> bytes:
    try:
        chunk: bytes = response.read(size)
    except TimeoutError as error:
        raise _Cut(f"the server has been silent for {SILENCE_SECONDS:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(str(error) or type(error).__name__) from error
    return chunk


def _refusal(url: str, code: int) -> KubewrightError:
    where = f"{shown(url)}: the server answers {code} ({http.client.responses.get(code, '?')})"
    if code in (http.client.NOT_FOUND, http.client.GONE):
        return NotThere(f"{where}: it does not have the file.")
    return KubewrightError(f"{where}. See the server's log.")


def _unreachable(url: str, error: OSError | http.client.HTTPException) -> KubewrightError:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return KubewrightError(
            f"{shown(url)}: the server's certificate is not trusted: {reason.verify_message}. Add "
            "its CA to the node's trust store, or fix the certificate."
        )
    if isinstance(reason, TimeoutError):
        reason = f"the server was silent for {SILENCE_SECONDS:g} s"
    return KubewrightError(
        f"{shown(url)} can't be reached from the node: {reason}. Check the URL, the "
        "server, and the firewalls in between."
    )
