# SPDX-License-Identifier: Apache-2.0
"""What containers leave on this host: take a snapshot, and compare with it later.

    python leftovers.py snapshot FILE    writes what is there now
    python leftovers.py diff FILE        exit code 1, and lines on stdout, when something was added

Only what was added counts: what went away meanwhile was somebody else's. Counters, handles and
process ids are left out, so that two snapshots of the same state are equal. Run as root.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from host_snapshot import mounts, nftables

Snapshot = Mapping[str, Sequence[str]]


def snapshot() -> dict[str, list[str]]:
    """What there is now: lines by kind, each kind sorted."""
    kinds: dict[str, Iterable[str]] = {
        "container": names("podman", "ps", "--all", "--external", "--format=json"),
        "volume": names("podman", "volume", "ls", "--format=json"),
        "network": names("podman", "network", "ls", "--format=json"),
        "mount": mounts(Path("/proc/self/mountinfo").read_text()),
        "loop device": loop_devices(output("losetup", "--json", "--list")),
        "nftables": nftables(output("nft", "--json", "--stateless", "list", "ruleset")),
        "iptables": iptables(output("iptables-save"), "ipv4"),
        "ip6tables": iptables(output("ip6tables-save"), "ipv6"),
        "route": routes("-4"),
        "route (IPv6)": routes("-6"),
        "interface": interfaces(output("ip", "-json", "link", "show")),
        "network namespace": output("ip", "netns", "list").splitlines(),
    }
    return {kind: sorted(lines) for kind, lines in kinds.items()}


def added(before: Snapshot, after: Snapshot) -> list[str]:
    """What `after` has more than `before`, as lines "kind: what"; equal lines are counted."""
    return [
        f"{kind}: {line}"
        for kind, lines in after.items()
        for line in sorted((Counter(lines) - Counter(before.get(kind, ()))).elements())
    ]


def output(*command: str) -> str:
    """Standard output; empty when the tool is not installed. Another failure raises."""
    if shutil.which(command[0]) is None:
        return ""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


def names(*command: str) -> list[str]:
    """Names in one of podman's listings, which spell the field in three ways."""
    found = []
    for entry in json.loads(output(*command) or "[]") or []:
        name = entry.get("Name") or entry.get("name") or " ".join(entry.get("Names") or ["?"])
        found.append(str(name))
    return found


def loop_devices(listing: str) -> list[str]:
    """Backing files of the loop devices in use; which device it is does not matter."""
    devices = json.loads(listing)["loopdevices"] if listing.strip() else []
    return [str(device["back-file"]) for device in devices]


def iptables(listing: str, family: str) -> list[str]:
    """Tables, chains and rules of iptables-save, without comments and counters."""
    found, table = [], ""
    for line in listing.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith((":", "-")):
            rule = re.sub(r" ?\[\d+:\d+\] ?", "", line)
            found.append(f"{family} {table} {rule}")
    return found


def routes(family: str) -> list[str]:
    """Routes of all tables, but for those that the kernel keeps for passing addresses."""
    found = []
    for line in output("ip", family, "route", "show", "table", "all").splitlines():
        found.append(re.sub(r" (expires \d+sec|error -?\d+|linkdown|dead)\b", "", line.strip()))
    return found


def interfaces(listing: str) -> list[str]:
    """Names of this host's network interfaces."""
    return [entry["ifname"] for entry in json.loads(listing or "[]")]


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands."""
    if len(arguments) != 2 or arguments[0] not in ("snapshot", "diff"):
        print(__doc__, file=sys.stderr)
        return 2
    file, now = Path(arguments[1]), snapshot()
    if arguments[0] == "snapshot":
        file.write_text(json.dumps(now, indent=2) + "\n")
        return 0
    found = added(json.loads(file.read_text()), now)
    print("\n".join(["Left on this host:", *found]) if found else "Nothing is left.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
