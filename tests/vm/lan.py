# SPDX-License-Identifier: Apache-2.0
"""A network for virtual machines on this host, which leads nowhere else."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BRIDGE = "kwvm0"
GATEWAY, PREFIX_LENGTH = "10.79.0.1", 24
_TABLE = "kwvm"
_LOCK = Path("/run/lock/kwvm.lock")
#: This host may forward for others.
_CLOSED = f"""
table inet {_TABLE} {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{BRIDGE}" oifname != "{BRIDGE}" drop
        iifname != "{BRIDGE}" oifname "{BRIDGE}" drop
    }}
}}
"""


@dataclass(frozen=True)
class Port:
    """One machine's place on it, by its number, 1 to 200."""

    number: int

    @property
    def address(self) -> str:
        return f"10.79.0.{10 + self.number}"

    @property
    def mac(self) -> str:
        return f"02:00:0a:4f:00:{10 + self.number:02x}"

    @property
    def tap(self) -> str:
        """Name of the interface, which QEMU makes and which ends with it."""
        return f"kwvm-tap{self.number}"


@contextmanager
def lan() -> Iterator[None]:
    """Make it, and remove it: also one that a killed run has left. There is one at a time."""
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AssertionError("another `make vm` runs on this host") from None
        _remove()
        try:
            on_host("ip", "link", "add", BRIDGE, "type", "bridge")
            on_host("ip", "address", "add", f"{GATEWAY}/{PREFIX_LENGTH}", "dev", BRIDGE)
            on_host("ip", "link", "set", BRIDGE, "up")
            on_host("nft", "--file", "-", stdin=_CLOSED)
            yield
        finally:
            _remove()


def _remove() -> None:
    if _there("ip", "link", "show", BRIDGE):
        on_host("ip", "link", "delete", BRIDGE)
    if _there("nft", "list", "table", "inet", _TABLE):
        on_host("nft", "delete", "table", "inet", _TABLE)


def _there(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def on_host(*command: str, stdin: str = "", limit: float = 30) -> None:
    """Run a command; what it said is the message where it failed. ``limit`` is in seconds."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=limit
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
