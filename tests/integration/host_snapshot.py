# SPDX-License-Identifier: Apache-2.0
"""What is on a host, so that two snapshots show what came, went or changed between them.

    ssh root@host python3 - < host_snapshot.py > before.json
    python host_snapshot.py diff before.json after.json    exit code 1, and lines, when they differ

Needs nothing but Python and root on the host. What changes on a host that nobody touches (logs,
journals, counters, timers) is left out, and so are handles and process ids.
"""

from __future__ import annotations

import fcntl
import fnmatch
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Snapshot = Mapping[str, Any]

#: Not walked: the kernel's own file systems. What matters of them has its own section.
KERNEL = ("/proc", "/sys", "/dev")
#: Paths that change by themselves, as shell patterns; `*` also stands for slashes.
VOLATILE = (
    "/run/log/*",
    "/run/motd.dynamic",
    "/run/systemd/*",
    "/run/udev/*",
    "/run/user*",
    "/run/utmp",
    "/run/*.pid",
    "/run/*/*.pid",
    "/tmp/systemd-private-*",
    "/tmp/host_snapshot*",
    "/var/tmp/systemd-private-*",
    "/var/cache/*",
    "/var/lib/apt/*",
    "/var/lib/dhcp/*",
    "/var/lib/logrotate/*",
    "/var/lib/systemd/*",
    "/var/log/journal/*",
    "/var/log/apt/*",
    "/var/log/*log",
    "/var/log/*log.*",
    "/var/log/[bw]tmp*",
    "/var/log/messages*",
    "/var/log/debug*",
    "/root/.bash_history",
)
#: Kernel settings that count, or that differ at each reading.
COUNTERS = (
    "dev/cdrom/*",
    "fs/aio-nr",
    "fs/binfmt_misc*",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota/*",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "kernel/random/*",
    "kernel/tainted",
    "net/ipv4/tcp_fastopen_key",
    "net/ipv6/neigh/*",
    "net/netfilter/nf_conntrack_count",
    "vm/stat_refresh",
)
#: Units that come, go, or do their work now and then.
PASSING_UNITS = (
    "*.device",
    "*.scope",
    "apt-*",
    "dpkg-*",
    "e2scrub*",
    "fstrim*",
    "logrotate*",
    "man-db*",
    "run-user-*",
    "session-*",
    "ssh@*",
    "systemd-tmpfiles-clean*",
    "user-*",
    "user@*",
)


def snapshot(root: Path = Path("/")) -> dict[str, Any]:
    """Everything; of another *root* only what is found in files."""
    here = root == Path("/")
    found: dict[str, Any] = {
        "files": dict(files(root)),
        "mounts": mounts(text_of(root / "proc/self/mountinfo")),
        "interfaces": sorted(names(root / "sys/class/net")),
        "loop devices": sorted(loop_devices(root)),
        "control groups": sorted(control_groups(root / "sys/fs/cgroup")),
        "swap": sorted(line.split()[0] for line in text_of(root / "proc/swaps").splitlines()[1:]),
        "sysctls": dict(sysctls(root / "proc/sys")),
    }
    if here:
        found |= {
            "addresses": addresses(output("ip", "-json", "address")),
            "routes": routes(output("ip", "route", "show", "table", "all")),
            "rules": sorted(output("ip", "rule").splitlines()),
            "nftables": nftables(output("nft", "--json", "list", "ruleset")),
            "iptables": legacy_rules(),
            "ipsets": sorted(output("ipset", "list", "-name").splitlines()),
            "users": sorted(
                [":".join(map(str, user[:1] + user[2:])) for user in pwd.getpwall()]
                + [f"group {group.gr_name}:{group.gr_gid}" for group in grp.getgrall()]
            ),
            "units": units(
                output("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full"),
                output("systemctl", "list-unit-files", "--no-legend", "--full"),
            ),
        }
    return found


def diff(before: Snapshot, after: Snapshot) -> list[str]:
    """What is not as it was, as lines "section: what"; none: nothing changed.

    A kernel setting that only one of them has came or went with a module or an interface, which
    has its own line.
    """
    lines: list[str] = []
    for section in sorted(set(before) | set(after)):
        old, new = before.get(section), after.get(section)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += _changed(section, old, new)
        else:
            counted = Counter(map(str, old or ())), Counter(map(str, new or ()))
            lines += [
                f"{section}: gone: {one}" for one in sorted((counted[0] - counted[1]).elements())
            ]
            lines += [
                f"{section}: new: {one}" for one in sorted((counted[1] - counted[0]).elements())
            ]
    return lines


def _changed(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(set(old) | set(new)):
        if section == "sysctls" and not (name in old and name in new):
            continue
        if name not in new:
            yield f"{section}: gone: {name}"
        elif name not in old:
            yield f"{section}: new: {name}"
        elif old[name] != new[name]:
            yield f"{section}: {name} was {old[name]}, is {new[name]}"


def text_of(path: Path) -> str:
    """A file's text; empty where there is none."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def names(directory: Path) -> list[str]:
    """Names in a directory; none where it is not there."""
    return [entry.name for entry in directory.iterdir()] if directory.is_dir() else []


def output(*command: str) -> str:
    """Standard output; empty when the tool is not installed. Another failure raises."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    tool = shutil.which(command[0], path=path)
    if tool is None:
        return ""
    result = subprocess.run(
        [tool, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


def files(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Path, and kind, mode, owner and content, of all that is not volatile."""
    for directory, below, there in os.walk(root):
        at = f"/{os.path.relpath(directory, root)}" if Path(directory) != root else ""
        below[:] = [
            name for name in below if f"{at}/{name}" not in KERNEL and not volatile(f"{at}/{name}")
        ]
        for name in [*below, *there]:
            path = f"{at}/{name}"
            if not volatile(path):
                told = _file(Path(directory, name))
                if told:
                    yield path, told


def volatile(path: str) -> bool:
    """Whether it changes by itself."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in VOLATILE)


def _file(path: Path) -> list[str]:
    try:
        status = path.lstat()
        kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}.get(
            stat.S_IFMT(status.st_mode), "special"
        )
        told = [kind, f"{stat.S_IMODE(status.st_mode):04o}", f"{status.st_uid}:{status.st_gid}"]
        if kind == "link":
            return [kind, str(path.readlink())]
        if kind == "file":
            with path.open("rb") as file:
                told.append(hashlib.file_digest(file, "sha256").hexdigest())
        return told
    except FileNotFoundError:
        return []  # gone while we looked


def mounts(mountinfo: str) -> list[str]:
    """Mount point and type out of /proc/self/mountinfo, proc(5)."""
    found = []
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        found.append(f"{fields.split()[4]} ({rest.split()[0]})")
    return sorted(found)


def loop_devices(root: Path) -> Iterator[str]:
    """Backing files of the loop devices in use; which device it is does not matter.

    Containers share a kernel: the file of another one is not here, or is another file.
    """
    for path in (root / "sys/block").glob("loop*/loop/backing_file"):
        backing = text_of(path).strip()
        if backing and (backing.endswith("(deleted)") or _is_here(root, path.parts[-3], backing)):
            yield backing


def _is_here(root: Path, device: str, backing: str) -> bool:
    """Whether the file of that name is the one that is behind the device, see loop(4)."""
    status = bytearray(232)
    try:
        with (root / "dev" / device).open("rb") as file:
            fcntl.ioctl(file, 0x4C05, status)  # LOOP_GET_STATUS64: device, inode, ...
        inode = int.from_bytes(status[8:16], sys.byteorder)
        return (root / backing.lstrip("/")).stat().st_ino == inode
    except OSError:
        return False


def control_groups(directory: Path) -> Iterator[str]:
    """Names of the first control groups: of the one hierarchy, or of each."""
    for name in names(directory):
        if (directory / name).is_dir() and not (directory / name).is_symlink():
            yield name
            yield from (
                f"{name}/{below}"
                for below in names(directory / name)
                if below.startswith("kubepods") and (directory / name / below).is_dir()
            )


def sysctls(directory: Path) -> Iterator[tuple[str, str]]:
    """Kernel settings that can be read, without counters."""
    for path, below, there in os.walk(directory):
        at = os.path.relpath(path, directory)
        prefix = "" if at == "." else f"{at}/"
        # To look into it mounts it.
        below[:] = [name for name in below if not _counts(f"{prefix}{name}")]
        for name in there:
            if not _counts(f"{prefix}{name}"):
                value = text_of(Path(path, name))
                if value:
                    yield f"{prefix}{name}", " ".join(value.split())


def _counts(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in COUNTERS)


def addresses(listing: str) -> list[str]:
    """Interface and address, without lifetimes."""
    return sorted(
        f"{link['ifname']} {address['local']}/{address['prefixlen']}"
        for link in json.loads(listing or "[]")
        for address in link.get("addr_info", [])
        if "local" in address
    )


def routes(listing: str) -> list[str]:
    """Routes of all tables, without what ages."""
    passing = r" (expires \d+sec|error -?\d+|linkdown|dead|hoplimit \d+)\b"
    return sorted(re.sub(passing, "", line.strip()) for line in listing.splitlines())


def nftables(listing: str) -> list[str]:
    """Tables, chains, sets and rules of `nft --json`, without handles and counters, in order."""
    return [
        f"{kind} {json.dumps(_stable(value), sort_keys=True)}"
        for item in (json.loads(listing)["nftables"] if listing.strip() else [])
        for kind, value in item.items()
        if kind != "metainfo"
    ]


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: None if key == "counter" else _stable(item)
            for key, item in value.items()
            if key != "handle"
        }
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return value


def legacy_rules() -> list[str]:
    """Rules of the legacy iptables, where it is in use: asking it otherwise loads its modules."""
    found = []
    for family, command in (("ip", "iptables-legacy-save"), ("ip6", "ip6tables-legacy-save")):
        if text_of(Path(f"/proc/net/{family}_tables_names")).split():
            for line in output(command).splitlines():
                if not line.startswith("#"):
                    rule = re.sub(r" ?\[\d+:\d+\] ?", "", line)
                    found.append(f"{family} {rule}")
    return found


def units(listed: str, unit_files: str) -> dict[str, str]:
    """State by unit that systemd has in mind, and by unit file whether it starts at boot."""
    found = {}
    for line in listed.splitlines():
        name, load, active, *_ = line.split(maxsplit=4)
        if not _passes(name):
            found[name] = f"{load} {active}"
    for line in unit_files.splitlines():
        name, state, *_ = line.split()
        if not _passes(name):
            found[f"{name} (file)"] = state
    return found


def _passes(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PASSING_UNITS)


def read(path: str) -> Snapshot:
    """A snapshot out of a file."""
    found: Snapshot = json.loads(Path(path).read_text())
    return found


def main(arguments: Sequence[str]) -> int:
    """Print a snapshot, or the difference of two."""
    if not arguments:
        json.dump(snapshot(), sys.stdout, indent=1, sort_keys=True)
        return 0
    if len(arguments) != 3 or arguments[0] != "diff":
        print(__doc__, file=sys.stderr)
        return 2
    lines = diff(read(arguments[1]), read(arguments[2]))
    print("\n".join(lines or ["Nothing has changed."]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
