# SPDX-License-Identifier: Apache-2.0
"""Upstream's release files, from a server or a directory: whole and as pinned, or not at all.

What is in progress has a name of its own, and is resumed where the server can do that. Credentials
come from ~/.netrc, trusted authorities from the system or SSL_CERT_FILE, proxies from the
environment. None of them, and no URL with a query, gets into a message.
"""

from __future__ import annotations

import re
import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kubewright.image.errors import ImageError
from kubewright.image.origin import Origin, host_of
from kubewright.image.paths import sha256_file, sync_directory

if TYPE_CHECKING:
    import requests

# Connect and between two reads, in seconds.
_TIMEOUT = (20, 60)
# After so many attempts that brought nothing more, a download is given up.
_FRUITLESS_ATTEMPTS = 3
# How a download that was cut goes on when the same command is run again.
_GOES_ON = "the download resumes there"
_ANEW = "this file starts over"
_NO_RANGES = "the download starts over, since the server does not support range requests"
_BLOCK = 1 << 20
_LARGEST_TEXT = 1 << 20
_SHA256 = re.compile(r"^([0-9a-f]{64})(?:\s+\*?(\S+))?$")


class Files:
    """The files of one origin, by their address ``<host>/<path>``; use it from one thread."""

    def __init__(self, origin: Origin, *, pinning: bool = False) -> None:
        """``pinning``: the user is told that a file which did not come whole begins anew."""
        self._origin = origin
        self._pinning = pinning
        self._kept = "what was pinned is kept" if pinning else "what was downloaded is kept"
        self._session: requests.Session | None = None

    def fetch(self, address: str, target: Path, sha256: str | None) -> str:
        """Make sure that ``target`` is the file with this ``sha256``; return the hash.

        Without a hash (that is for pinning) the file is fetched in any case. Raises ImageError.
        """
        if sha256 and target.is_file() and sha256_file(target) == sha256:
            return sha256
        partial = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        if sha256 is None:
            partial.unlink(missing_ok=True)
        resumed = partial.exists()
        self._receive(address, partial)
        found = sha256_file(partial)
        if sha256 and found != sha256 and resumed:
            # An earlier command may have left the beginning of another file.
            partial.unlink()
            self._receive(address, partial)
            found = sha256_file(partial)
        if sha256 and found != sha256:
            partial.unlink()
            raise ImageError(
                f"{_name(address)} from {self._origin.place(address)} has sha256"
                f" {found}, but the catalogue pins {sha256}.",
                "The file was discarded. Replace it in the mirror (kubewright image mirror)."
                if self._origin.source == "mirror"
                else "The file was discarded. Run the command again; if it keeps happening, don't "
                "trust that server.",
            )
        partial.replace(target)
        sync_directory(target.parent)
        return found

    def published_sha256(self, address: str, of: str) -> str:
        """The sha256 that the checksum file at ``address`` has for the file ``of``."""
        text = self._text(address)
        found = [match for line in text.splitlines() if (match := _SHA256.match(line.strip()))]
        for match in found:
            if match[2] is None or match[2].removeprefix("./") == _name(of):
                return match[1]
        raise ImageError(
            f"{self._origin.place(address)} has no sha256 for {_name(of)}.",
            "Open it in a browser: it may be an error page, or the upstream format has changed.",
        )

    def _text(self, address: str) -> str:
        if directory := self._directory():
            path = directory / address
            if not path.is_file():
                raise self._missing(address)
            return path.read_text(errors="replace")
        import urllib3

        with self._get(address, {}) as response:
            try:
                data = response.raw.read(_LARGEST_TEXT, decode_content=True)
            except urllib3.exceptions.HTTPError as fault:
                total = _total(response.headers, 0)
                raise self._cut(address, response.raw.tell(), total, _ANEW) from fault
        return bytes(data).decode(errors="replace")

    def _directory(self) -> Path | None:
        place = self._origin.mirror
        return Path(place) if place and "://" not in place else None

    def _receive(self, address: str, partial: Path) -> None:
        if directory := self._directory():
            if not (directory / address).is_file():
                raise self._missing(address)
            shutil.copyfile(directory / address, partial)
        else:
            self._download(address, partial)

    def _download(self, address: str, partial: Path) -> None:
        import urllib3  # takes a tenth of a second: commands that fetch nothing do without

        left = _FRUITLESS_ATTEMPTS
        unchanged = ""  # what the server names this state of the file
        while left:
            have = partial.stat().st_size if partial.exists() else 0
            asked = {"Range": f"bytes={have}-"} if have else {}
            if have and unchanged:
                asked["If-Range"] = unchanged
            with self._get(address, asked) as response:
                headers = response.headers
                if response.status_code == 416:
                    if headers.get("Content-Range") == f"bytes */{have}":
                        return  # it was complete; its hash decides
                    partial.unlink()
                    left -= 1
                    continue
                goes_on = response.status_code == 206 and _begins_at(headers, have)
                if response.status_code == 206 and not goes_on:
                    raise ImageError(
                        f"{self._origin.place(address)} was sent from a different offset than "
                        "requested.",
                        "The server, or a proxy in front of it, is broken: try another one.",
                    )
                unchanged = _validator(headers)
                total = _total(headers, have if goes_on else 0)
                try:
                    with partial.open("ab" if goes_on else "wb") as file:
                        for block in response.raw.stream(_BLOCK, decode_content=False):
                            file.write(block)
                    return
                except urllib3.exceptions.HTTPError as fault:
                    reached = partial.stat().st_size
                    if not goes_on and headers.get("Accept-Ranges") != "bytes":
                        partial.unlink()
                        raise self._cut(address, reached, total, _NO_RANGES) from fault
            left = left - 1 if reached <= have else _FRUITLESS_ATTEMPTS
        raise self._cut(address, have, None, _ANEW if self._pinning else _GOES_ON)

    def _get(self, address: str, headers: dict[str, str]) -> requests.Response:
        import requests

        if self._session is None:
            self._session = requests.Session()
            # Bytes as they are stored: a server must not pack or unpack them on the way.
            self._session.headers.update({"Accept-Encoding": "identity"})
        url = self._origin.place(address)
        try:
            response = self._session.get(
                url, headers=headers, stream=True, timeout=_TIMEOUT, verify=_authorities()
            )
        except requests.RequestException as fault:
            raise _unreachable(address, url, fault, self._kept) from None
        if response.status_code not in (200, 206, 416):
            response.close()
            raise self._refused(address, response.status_code)
        return response

    def _refused(self, address: str, status: int) -> ImageError:
        from requests.utils import get_netrc_auth

        url = self._origin.place(address)
        host = urlsplit(url).hostname
        if status in (404, 410):
            return self._missing(address, status)
        if status in (401, 403):
            known = get_netrc_auth(url) is not None
            return ImageError(
                f"{url} asks for a login, and "
                + (f"rejects the login in ~/.netrc for {host}" if known else "none is known")
                + f" (status {status}).",
                f"{'Correct' if known else 'Write'} it in ~/.netrc (or the file that NETRC names),"
                f" mode 0600: machine {host} login NAME password PASSWORD",
            )
        return ImageError(
            f"{_name(address)} could not be downloaded: {url} answers with status {status}.",
            f"Run the command again; {self._kept}. If it keeps happening,"
            f" ask the administrator of {host_of(url)}.",
        )

    def _missing(self, address: str, status: int | None = None) -> ImageError:
        says = f" (status {status})" if status else ""
        return ImageError(
            f"{_name(address)} is missing: there is no {self._origin.place(address)}{says}.",
            "Fill the mirror: kubewright image mirror. Its layout is in docs/air-gapped.md."
            if self._origin.source == "mirror"
            else "Upstream has moved it: update its address in the catalogue (upstream.yml).",
        )

    def _cut(self, address: str, reached: int, total: int | None, again: str) -> ImageError:
        of = f" of {total}" if total is not None else ""
        return ImageError(
            f"The connection was interrupted while {_name(address)} was"
            f" downloaded from {self._origin.place(address)}: {reached}{of} bytes arrived.",
            f"Run the command again; {again}.",
        )


def _name(address: str) -> str:
    return address.rpartition("/")[2]


def _begins_at(headers: requests.structures.CaseInsensitiveDict[str], have: int) -> bool:
    return str(headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _validator(headers: requests.structures.CaseInsensitiveDict[str]) -> str:
    """For If-Range; a weak ETag can't be used there (RFC 9110, 13.1.5)."""
    tag = str(headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(headers.get("Last-Modified", ""))


def _total(headers: requests.structures.CaseInsensitiveDict[str], have: int) -> int | None:
    length = str(headers.get("Content-Length", ""))
    return have + int(length) if length.isdigit() else None


def _authorities() -> str | bool:
    """The system's authorities or those of SSL_CERT_FILE, as for every program of the host."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def _unreachable(address: str, url: str, fault: Exception, kept: str) -> ImageError:
    """In words of our own: the exception's may hold a redirect's secrets, or a proxy's."""
    import requests

    host = host_of(url)
    if isinstance(fault, requests.exceptions.SSLError):
        return ImageError(
            f"{_name(address)} was not downloaded: {url} can't be trusted. Its"
            " certificate is not signed by a CA that this machine trusts, or is not valid for "
            f"{host}.",
            "If it is signed by your own CA, set SSL_CERT_FILE to the CA certificate, or add it to"
            " the system's trust store (update-ca-certificates).",
        )
    reason = "it does not answer"
    if isinstance(fault, requests.exceptions.ProxyError):
        reason = "the proxy of https_proxy or http_proxy does not let it through"
    elif isinstance(fault, requests.exceptions.TooManyRedirects):
        reason = "it redirects in a loop"
    return ImageError(
        f"{_name(address)} could not be downloaded from {url}: {reason}.",
        f"Check the network, the name {host} and the proxy settings (https_proxy, no_proxy) and run"
        f" the command again; {kept}. If the public servers can't be"
        " reached, use a mirror: docs/air-gapped.md.",
    )
