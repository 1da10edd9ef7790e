# SPDX-License-Identifier: Apache-2.0
"""System volumes that are missing, foreign, damaged, full, read-only; larger ones; a device."""

from __future__ import annotations

import hashlib

import kube as api
from kube import Kube
from machines import halt, power_on, run_on
from node_images import containers
from volumes import (
    DEVICE,
    GB,
    VOLUME,
    Volumes,
    booted,
    device_of,
    host,
    maintain,
    refused,
    size_of,
    state,
    stopped,
    untouched,
)
from waiting import NotYet, until

READY, BOOT = 150, 90
#: How much of a device a preflight could have touched at its beginning.
BEGINNING = 64 << 20


def test_a_device_that_is_missing_is_refused_by_the_preflight(volumes: Volumes) -> None:
    (told,) = refused(volumes.apply())
    assert (told["host"], told["check"]) == (volumes.on_device, "volume")
    assert told["text"] == f"The device {DEVICE} of the system volume is missing."
    assert "Attach it, or use another device" in told["remedy"]
    assert all(untouched(node) for node in volumes.nodes)


def test_foreign_data_is_refused_before_anything_is_touched(volumes: Volumes) -> None:
    volumes.plug()
    host("mkfs.ext4", "-q", "-L", "theirs", str(volumes.disk))
    before = beginning(volumes)
    (told,) = refused(volumes.apply())
    assert (told["host"], told["check"]) == (volumes.on_device, "volume")
    held = "an ext4 file system labeled 'theirs', not 'kubewright'"
    assert told["text"] == f"{DEVICE} contains {held}. It was not touched."
    assert f"`wipefs --all {DEVICE}`" in told["remedy"]
    assert beginning(volumes) == before
    assert all(untouched(node) for node in volumes.nodes)


def test_a_node_runs_from_a_device(volumes: Volumes, whole: Kube) -> None:
    node = volumes.on_device
    assert device_of(node) == volumes.disk.name
    assert size_of(node) > 20 * GB
    assert volumes.troubles(node) == []
    reboot(volumes, whole, node)
    assert device_of(node) == volumes.disk.name
    assert volumes.apply().succeeded().document["changed"] is False


def test_it_grows_and_never_shrinks(volumes: Volumes, whole: Kube) -> None:
    node = volumes.on_file
    before, pods = size_of(node), containers(whole, node)
    assert before < 21 * GB
    volumes.write(web={"system_volume": {"size_gb": 22}})
    ended = volumes.apply()
    assert containers(whole, node) == pods, "the pods went on"
    if ended.status != 0:  # the kernel wants a capability for it that containers may lack
        assert "drain the node and reboot it, it grows before it is mounted" in ended.stderr
        reboot(volumes, whole, node)
    assert size_of(node) > before + GB
    assert volumes.apply().succeeded().document["changed"] is False
    volumes.write()
    smaller = volumes.apply()
    assert smaller.status != 0
    assert "20000000000 are set: a volume can't shrink" in smaller.stderr, smaller.stderr
    assert "Set that size or more (size_gb: 22)" in smaller.stderr, smaller.stderr
    assert size_of(node) > before + GB
    volumes.write(web={"system_volume": {"size_gb": 22}})
    assert volumes.apply().succeeded().document["changed"] is False


def test_a_node_without_its_device_does_not_run(volumes: Volumes, whole: Kube) -> None:
    node = volumes.on_device
    volumes.unplug()
    try:
        restart(node)
        (told,) = volumes.troubles(node)
        assert told.startswith(f"The device {DEVICE} of the system volume is missing. Attach it")
        assert "reset the node and apply" in told
        stopped(node)
        without = volumes.apply()
        assert without.status != 0
        assert f"The device {DEVICE} of the system volume is missing" in without.stderr
    finally:
        volumes.plug()
    mended = api.now()
    volumes.apply().succeeded()
    until("Ready", api.all_ready(whole, frozenset(volumes.nodes), mended), limit=READY)
    assert volumes.troubles(node) == []


def test_a_node_whose_superblock_is_gone_does_not_run(volumes: Volumes, whole: Kube) -> None:
    node, disk = volumes.on_device, str(volumes.disk)
    halt(node)
    host("dd", "if=/dev/zero", f"of={disk}", "bs=1024", "seek=1", "count=1", "conv=notrunc,fsync")
    start(node)
    (told,) = volumes.troubles(node)
    assert told.startswith(
        f"{DEVICE} is damaged, and can't be repaired without decisions. Run `e2fsck -f"
    )
    stopped(node)
    held = beginning(volumes)
    blank = volumes.apply()
    assert blank.status != 0
    assert f"{DEVICE} was the system volume, but is blank" in blank.stderr, blank.stderr
    assert beginning(volumes) == held, "it is not made anew"
    # As it is told.
    run_on(node, ["sh", "-c", f"e2fsck -f -y {DEVICE} || test $? -lt 4"], limit=120)
    reboot(volumes, whole, node)


def test_a_node_whose_files_are_in_doubt_does_not_run(volumes: Volumes, whole: Kube) -> None:
    node, disk = volumes.on_device, str(volumes.disk)
    maintain(node, f"echo mine >{VOLUME}/kwtest-file")
    halt(node)
    # A file that no directory names any more: whether it may go is for a person to say.
    host("debugfs", "-w", "-f", "-", disk, stdin="unlink kwtest-file\nssv state 2\n")
    start(node)
    (told,) = volumes.troubles(node)
    assert f"Run `e2fsck -f {DEVICE}` on the node and reboot it" in told
    stopped(node)
    doubtful = volumes.apply()
    assert doubtful.status != 0
    assert f"Run `e2fsck -f {DEVICE}`" in doubtful.stderr, doubtful.stderr
    run_on(node, ["sh", "-c", f"e2fsck -f -y {DEVICE} || test $? -lt 4"], limit=120)
    mended = api.now()
    volumes.apply().succeeded()
    until("Ready", api.all_ready(whole, frozenset(volumes.nodes), mended), limit=READY)
    assert volumes.troubles(node) == []


def test_a_full_volume_is_told_and_the_node_runs(volumes: Volumes, whole: Kube) -> None:
    node, pods = volumes.on_device, containers(whole, volumes.on_device)
    room = f"$(($(stat -f -c '%a * %S' {VOLUME}) - 300000))"
    maintain(node, f"fallocate --length {room} {VOLUME}/kwtest-fill")
    try:
        (told,) = volumes.troubles(node)
        assert told.startswith(f"{VOLUME} is full. Remove unused images")
        assert f"`du -xh {VOLUME} | sort -h | tail`" in told
        assert containers(whole, node) == pods, "the pods went on"
        full = volumes.apply()
        assert full.status != 0
        assert f"{VOLUME} is full. Remove" in full.stderr, full.stderr
        reboot(volumes, whole, node)
        assert state(node, "kubelet.service") == "active"
        assert len(volumes.troubles(node)) == 1
    finally:
        maintain(node, f"rm {VOLUME}/kwtest-fill")
    assert volumes.troubles(node) == []
    volumes.apply().succeeded()


def test_a_flipped_bit_of_the_image_is_found_and_mended(volumes: Volumes, whole: Kube) -> None:
    node, pods = volumes.on_device, containers(whole, volumes.on_device)
    image = run_on(node, ["readlink", "-f", f"{VOLUME}/active/image.squashfs"]).strip()
    middle = int(run_on(node, ["stat", "--format=%s", image])) // 2
    (byte,) = run_on(node, ["od", "-An", "-tu1", "-j", str(middle), "-N1", image]).split()
    flip = f"printf '\\{int(byte) ^ 1:03o}' | dd of={image} bs=1 seek={middle} conv=notrunc,fsync"
    maintain(node, flip)
    run_on(node, ["systemctl", "start", "kubewright-image-verify.service"])
    until("verified", lambda: verdict(volumes, node), limit=60)
    (told,) = volumes.troubles(node)
    digest = image.rpartition("/")[2].removesuffix(".squashfs")
    assert told.startswith(f"The active system image {digest[:12]} is damaged on the disk. Apply")
    assert volumes.apply().succeeded().document["changed"] is True
    assert run_on(node, ["sha256sum", image]).split()[0] == digest
    assert volumes.troubles(node) == []
    assert containers(whole, node) == pods, "the pods went on"


def test_a_volume_that_errors_made_read_only(volumes: Volumes, whole: Kube) -> None:
    node, pods = volumes.on_file, containers(whole, volumes.on_file)
    host("sh", "-c", f"echo kwtest >/sys/fs/ext4/{device_of(node)}/trigger_fs_error")
    (told,) = volumes.troubles(node)
    assert told.startswith(f"{VOLUME} is read-only, because of disk errors. Drain this")
    assert containers(whole, node) == pods, "the pods went on"
    ended = volumes.apply()
    assert ended.status != 0
    assert f"{VOLUME} is read-only, because of disk errors" in ended.stderr, ended.stderr
    run_on(node, ["sh", "-c", "systemctl restart kubelet.service || true"])
    assert state(node, "kubelet.service") != "active", "it is not started again"
    reboot(volumes, whole, node)
    assert volumes.apply().succeeded().document["changed"] is False


def beginning(volumes: Volumes) -> str:
    """A hash of the device's beginning, as it is."""
    with volumes.disk.open("rb") as device:
        return hashlib.sha256(device.read(BEGINNING)).hexdigest()


def verdict(volumes: Volumes, node: str) -> None:
    """A look for a volume of which something is said."""
    if not volumes.troubles(node):
        raise NotYet(run_on(node, ["cat", "/var/lib/kubewright/verdict.json"]))


def start(node: str) -> None:
    """Switch a machine on, until its boot is over."""
    power_on(node)
    until("booted", lambda: booted(node), limit=BOOT)


def restart(node: str) -> None:
    """Reboot a machine in good order."""
    halt(node)
    start(node)


def reboot(volumes: Volumes, kube: Kube, node: str) -> None:
    """Reboot a node; it comes back by itself."""
    begun = api.now()
    restart(node)
    until("Ready", api.all_ready(kube, frozenset(volumes.nodes), begun), limit=READY)
