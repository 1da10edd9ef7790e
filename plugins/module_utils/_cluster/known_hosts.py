# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Host keys that the user of this machine trusts already.

ssh-keygen reads the files: it knows hashed names, patterns and ports as ssh does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import machines

SSH_PORT = 22
NOT_FOUND = 1


def keys(address: str, port: int, files: Sequence[Path], runner: commands.Runner) -> list[str]:
    """The keys of a host in *files*, as `machines` has them, without those that are revoked.

    An authority is one for the address: that is what ssh looks for in the host's certificate.
    """
    host = address if port == SSH_PORT else f"[{address}]:{port}"
    found: list[str] = []
    revoked: set[str] = set()
    for file in files:
        result = runner(["ssh-keygen", "-F", host, "-f", str(file)], timeout=20)
        if result.rc != NOT_FOUND:
            commands.check(result, f"Looking for {host} in {file}")
        for line in result.stdout.splitlines():
            _sort(line.split(), address, found, revoked)
    return [key for key in dict.fromkeys(found) if " ".join(key.split()[-2:]) not in revoked]


def _sort(words: list[str], address: str, found: list[str], revoked: set[str]) -> None:
    """Put the key of a line, sshd(8), where it belongs; what is no host key goes nowhere."""
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    key = " ".join(words[1:3])
    if not machines.is_key(key):
        return
    if marker == "@revoked":
        revoked.add(key)
    elif marker == machines.AUTHORITY:
        found.append(f"{marker} {address} {key}")
    elif not marker:
        found.append(key)
