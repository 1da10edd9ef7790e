# SPDX-License-Identifier: Apache-2.0
"""Hosts that cannot be nodes: all told at once, before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hosts as own
import pytest
from hosts import Host
from servers import Servers
from test_servers import differences, snapshots

from kubewright.image.paths import cache_dir

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
#: sshd does not work with that library, so Ansible's Python alone has it.
EARLY_PYTHON = "/usr/local/bin/early-python"
#: What is wrong with each host, and what is said of it.
WRONG = {
    "copy-1": ("machine-id", "It has the same machine-id as copy-2"),
    "copy-2": ("machine-id", "It has the same machine-id as copy-1"),
    "taken": ("ports", "Port 6443 is in use by python3"),
    "early": ("clock", "ahead of this machine's"),
    "other": ("architecture", "The machine is i686"),
    "guest": ("root", "Ansible is not root here"),
    "terminal": ("sudo", "sudo requires a terminal"),
    "loop": ("resolver", "/etc/resolv.conf names a DNS server on loopback (127.0.0.1)"),
    "mute": ("resolver", "/etc/resolv.conf names no DNS server"),
    "full": ("disk", "are free on /var/lib/kubewright"),
    "swap": ("swap", "Swap is on (/swapfile)"),
    "changed": ("ssh", "host key"),
    "dead": ("ssh", "its address"),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Hosts with something wrong each, and the user's files for them."""
    directory = tmp_path_factory.mktemp("refused")
    key = own.Key.make(directory)
    try:
        made = {host.name: host for host in own.make([*WRONG][:-1], key, cache_dir())}
        spoil(made)
        changed, taken = made["changed"], made["taken"]
        made["changed"] = Host(changed.name, changed.address, taken.key)
        made["dead"] = Host("dead", taken.address.replace(".13", ".99"), taken.key)
        hosts = [made[name] for name in WRONG]
        told: dict[str, dict[str, object]] = {
            "swap": {"preflight_allow_swap": False},
            "guest": {"ansible_user": "guest"},
            "terminal": {"ansible_user": "guest", "ansible_become": True},
            "early": {"ansible_python_interpreter": EARLY_PYTHON},
            "full": {"system_volume_sparse": False},
        }
        found = Servers("kwbad", directory, hosts[:3], hosts[3:], key, told)
        found.write()
        yield found
    finally:
        own.remove()


def spoil(made: dict[str, Host]) -> None:
    """Make each host what its name says."""
    for name in ("copy-1", "copy-2"):
        made[name].write("/etc/machine-id", f"{'5' * 32}\n")
    server = ["python3", "-m", "http.server", "6443"]
    made["taken"].run("systemd-run", "--unit=taken", *server)
    made["early"].write("/usr/lib/libfaketime.so.1", FAKETIME.read_bytes())
    made["early"].write(
        EARLY_PYTHON,
        '#!/bin/sh\nexec env LD_PRELOAD=/usr/lib/libfaketime.so.1 FAKETIME=+1h python3 "$@"\n',
    )
    made["early"].run("chmod", "0755", EARLY_PYTHON)
    made["other"].write(
        "/etc/systemd/system/ssh.service.d/kind.conf", "[Service]\nPersonality=x86\n"
    )
    made["other"].run("sh", "-c", "systemctl daemon-reload && systemctl restart ssh.service")
    for name in ("guest", "terminal"):
        made[name].run("useradd", "--create-home", "guest")
        made[name].run("cp", "-r", "/root/.ssh", "/home/guest/.ssh")
        made[name].run("chown", "-R", "guest:", "/home/guest/.ssh")
    rules = "Defaults requiretty\nguest ALL=(ALL) NOPASSWD: ALL\n"
    made["terminal"].write("/etc/sudoers.d/guest", rules)
    made["loop"].write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    made["mute"].write("/etc/resolv.conf", "search example.com\n")
    made["full"].run("mkdir", "/var/lib/kubewright")
    made["full"].run("mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", "/var/lib/kubewright")
    made["swap"].write("/run/swaps", "Filename Type Size Used Priority\n/swapfile file 1024 0 -2\n")
    made["swap"].run("mount", "--bind", "/run/swaps", "/proc/swaps")


def test_the_command_tells_all_of_them(refused: Servers) -> None:
    living = refused.hosts[:-1]
    before = snapshots(living)
    ended = refused.command("apply", "--yes", "-o", "json")
    assert ended.status != 0
    fatal = [one for one in ended.document["findings"] if one["severity"] == "fatal"]
    for host, (check, words) in WRONG.items():
        found = [one for one in fatal if (one["host"], one["check"]) == (host, check)]
        assert found, f"{host}: no {check} among {fatal}"
        assert words in found[0]["text"], found
        assert found[0]["remedy"]
    assert {one["host"] for one in fatal} == set(WRONG)
    assert differences(living, before) == []
