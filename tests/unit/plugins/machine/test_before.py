# SPDX-License-Identifier: Apache-2.0
"""What a machine was is recorded once, before the first change, and never replaced."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import owned
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.claims import Claim
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before
from ansible_collections.kubewright.cluster.plugins.module_utils._machine.before import look

EveryKill = Callable[[Callable[[], object]], Iterator[int]]


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def machine(tmp_path: Path, fake_runner: Any) -> before.Machine:
    root = tmp_path / "root"
    for name, value in (
        ("net/ipv4/ip_forward", "0\n"),
        ("net/ipv4/conf/eth0/forwarding", "0\n"),
        ("net/netfilter/nf_conntrack_max", "65536\n"),
        ("vm/swappiness", "60\n"),
    ):
        write(root / "proc/sys" / name, value)
    write(root / "proc/self/mountinfo", "36 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    (root / "sys/class/net/eth0").mkdir(parents=True)
    write(root / "etc/crictl.yaml", "mine\n")
    write(root / "var/lib/etcd/lost+found/x")
    return before.Machine(fake_runner(lambda _: (0, '{"nftables": []}', "")), root)


def test_what_it_was(machine: before.Machine) -> None:
    found = look(machine)
    assert found.sysctls == {
        "net/ipv4/ip_forward": "0",
        "net/ipv4/conf/eth0/forwarding": "0",
        "net/netfilter/nf_conntrack_max": "65536",
    }, "and nothing that we do not change"
    assert (found.links, found.mounts, found.chains) == (["eth0"], ["/"], [])
    assert found.paths == ["/var/lib/etcd", "/var/lib/etcd/lost+found"]
    assert base64.b64decode(found.files["/etc/crictl.yaml"]["content"]) == b"mine\n"


def test_the_first_writer_records_and_no_reader(node: Path) -> None:
    record = claims.EPOCH_PATH.parent / before.RECORD
    with fencing.node_lock(None, 1, writes=False) as fence:
        assert not record.exists()
        assert fence.pass_fds == () and not fencing.LOCK_DIRECTORY.exists(), "it leaves no trace"
    with fencing.node_lock(Claim(3), 1, check_mode=True):
        assert not record.exists()
    with fencing.node_lock(Claim(3), 1):
        assert record.exists()
    assert record.stat().st_mode & 0o777 == 0o600
    with fencing.node_lock(None, 1, writes=False) as fence:
        assert fence.pass_fds, "from now on a reader waits for writers"


def test_a_later_run_never_replaces_it(
    machine: before.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before, "look", look)
    state = tmp_path / "state"
    before.begin(state, machine)
    first = (state / before.RECORD).read_bytes()
    write(machine.path("/proc/sys/net/ipv4/ip_forward"), "1\n")
    before.begin(state, machine)
    before.complete(state, ["net.ipv4.ip_forward"], machine)
    assert (state / before.RECORD).read_bytes() == first


def test_a_node_without_a_record_gets_none(tmp_path: Path, machine: before.Machine) -> None:
    """What it is now are our own settings."""
    state = tmp_path / "state"
    write(state / "epoch", "4\n")
    before.begin(state, machine)
    before.complete(state, ["vm.swappiness"], machine)
    assert before.read(state) is None


def test_it_is_whole_after_a_kill_at_any_moment(
    tmp_path: Path, machine: before.Machine, every_kill: EveryKill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before, "look", look)
    state = tmp_path / "state"
    for _point in every_kill(lambda: before.begin(state, machine)):
        before.begin(state, machine)
        assert before.read(state) == look(machine)
        (state / before.RECORD).unlink()
        state.rmdir()


def test_what_comes_with_a_module_or_a_setting_is_added(
    tmp_path: Path, machine: before.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before, "look", look)
    state, proc = tmp_path / "state", machine.path("/proc")
    before.begin(state, machine)
    write(proc / "sys/net/bridge/bridge-nf-call-iptables", "1\n")
    write(proc / "sys/net/ipv4/conf/cni0/forwarding", "1\n")
    before.complete(state, ["vm.swappiness"], machine)
    record = before.read(state)
    assert record is not None
    assert record.sysctls["net/bridge/bridge-nf-call-iptables"] == "1"
    assert record.sysctls["vm/swappiness"] == "60"
    assert "net/ipv4/conf/cni0/forwarding" not in record.sysctls, "it was not there before"


def test_the_firewall_is_added_when_there_is_a_tool_for_it(
    tmp_path: Path, machine: before.Machine, fake_runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before, "look", look)

    def none(argv: tuple[str, ...]) -> tuple[int, str, str]:
        if argv[0] == "systemctl":
            return 0, "active\n", ""
        raise KubewrightError(f"{argv[0]} is not installed on this machine")

    state = tmp_path / "state"
    before.begin(state, replace(machine, run=fake_runner(none)))
    assert (record := before.read(state)) is not None and record.chains is None
    assert record.targets == ["network-online.target"]
    before.complete(state, [], machine)
    assert (record := before.read(state)) is not None and record.chains == []
    # What came then is ours.
    table = '{"nftables": [{"table": {"family": "ip", "name": "kube-proxy"}}]}'
    before.complete(state, [], replace(machine, run=fake_runner(lambda _: (0, table, ""))))
    assert (record := before.read(state)) is not None and record.chains == []


def test_the_firewall_of_a_running_node_is_none_of_before(
    tmp_path: Path, machine: before.Machine, fake_runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before, "look", look)
    state = tmp_path / "state"
    before.begin(state, replace(machine, run=fake_runner(lambda _: (1, "", "no"))))
    write(machine.path("/var/lib/kubelet/config.yaml"))
    before.complete(state, [], machine)
    assert (record := before.read(state)) is not None and record.chains is None


def test_a_damaged_record_is_no_guess(tmp_path: Path) -> None:
    write(tmp_path / before.RECORD, '{"sysctls": {')
    with pytest.raises(KubewrightError, match=r"before\.json is damaged.*Restore it"):
        before.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
    ],
)
def test_names_of_settings(name: str, path: str) -> None:
    assert before.slashed(name) == path


def test_mount_points_with_blanks(tmp_path: Path) -> None:
    info = write(tmp_path / "mountinfo", r"36 1 8:1 / /a\040b rw - ext4 /dev/sda1 rw" + "\n")
    assert before.mount_points(info) == ["/a b"]


def test_every_file_of_a_role_is_known_to_the_reset() -> None:
    """Whoever lets a role write another file says here how it goes."""
    roles = Path(__file__).parents[4] / "roles"
    named = {
        line.split("path: ")[1].split()[-1].strip("\"'")
        for path in roles.glob("*/vars/main.yml")
        if not path.parts[-3].startswith("provider_")
        for line in path.read_text().splitlines()
        if "- path: " in line
    }
    assert "/etc/crictl.yaml" in named
    known = {*owned.FILES, *owned.DIRECTORIES, owned.HOSTS}
    assert [
        path
        for path in sorted(named)
        if path not in known
        and not any(owned.is_below(path, tree) for tree in (*owned.TREES, owned.STATE))
    ] == []
