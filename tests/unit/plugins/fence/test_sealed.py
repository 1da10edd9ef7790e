# SPDX-License-Identifier: Apache-2.0
"""Read-only places: who may write to them, who may not, and what is left when he is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed

LINE = "{number} 1 7:{device} / {point} {flags} shared:1 - ext4 /dev/loop{device} {superblock}\n"


def info(tmp_path: Path, *mounts: tuple[str, int, str, str]) -> Path:
    """A mountinfo: place, number of the device, flags, flags of the file system."""
    path = tmp_path / "mountinfo"
    path.write_text(
        "".join(
            LINE.format(number=number, point=point, device=device, flags=flags, superblock=sb)
            for number, (point, device, flags, sb) in enumerate(mounts, 20)
        )
    )
    return path


def test_a_machine_without_a_volume_stays_as_it_is(tmp_path: Path) -> None:
    other = info(tmp_path, ("/", 0, "rw", "rw"), (sealed.KUBERNETES, 1, "ro", "rw"))
    before = Path("/proc/self/ns/mnt").readlink()
    assert sealed.open_for_this_process(other) == []
    assert Path("/proc/self/ns/mnt").readlink() == before


def test_somebody_elses_mount_is_not_ours(tmp_path: Path) -> None:
    found = sealed.mounts(
        info(
            tmp_path,
            (sealed.VOLUME, 1, "ro", "rw"),
            (sealed.KUBERNETES, 2, "ro", "rw"),
            (sealed.CONFIGURATION, 1, "ro", "rw"),
        )
    )
    ours = [mount.point for mount in sealed.of_volume(found)]
    assert ours == [sealed.VOLUME, sealed.CONFIGURATION]


def test_of_several_mounts_at_a_place_the_last_one_counts(tmp_path: Path) -> None:
    mounts = info(tmp_path, ("/x", 1, "rw", "rw"), ("/x", 2, "ro", "rw"), ("/y", 3, "rw", "rw"))
    assert sealed.writable(["/x", "/y", "/z"], mounts) == ["/y"]


def test_a_file_system_that_gave_up_is_told(tmp_path: Path) -> None:
    broken = info(tmp_path, (sealed.VOLUME, 1, "ro,noatime", "ro,errors=remount-ro"))
    with pytest.raises(KubewrightError, match=r"has become read-only.*dmesg"):
        sealed.open_for_this_process(broken)


#: A volume and two places of it, all sealed, in a mount namespace that ends with the test.
PLACES = """
    import os, pathlib, signal, subprocess, sys
    from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed
    top = sys.argv[1]
    volume, one, two = (f"{top}/{name}" for name in ("volume", "one", "two"))
    sealed.VOLUME, sealed.PLACES = volume, (volume, one, two)

    def mount(*words):
        subprocess.run(["mount", *words], check=True)

    mount("-t", "tmpfs", "-o", "nosuid", "tmpfs", volume)
    for place in (one, two):
        os.mkdir(f"{volume}/{os.path.basename(place)}")
        mount("--bind", f"{volume}/{os.path.basename(place)}", place)
        mount("-o", "remount,bind,ro", place)
    mount("-o", "remount,bind,ro,nosuid", volume)

    def refused(place):
        try:
            pathlib.Path(place, "x").touch()
        except OSError as error:
            return error.errno == 30
        return False

    def flags(place):
        return sealed.mounts(pathlib.Path("/proc/self/mountinfo"))[place].flags
"""


InNamespace = Callable[[str], None]


@pytest.fixture
def in_namespace(tmp_path: Path, collections_path: Path) -> InNamespace:
    """Runs a program below PLACES."""
    for name in ("volume", "one", "two"):
        (tmp_path / name).mkdir()

    def run(code: str) -> None:
        program = textwrap.dedent(PLACES) + textwrap.dedent(code)
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-c", program, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(collections_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_who_opens_them_may_write_and_nobody_else(in_namespace: InNamespace) -> None:
    in_namespace(
        """
        child = os.fork()
        if not child:
            assert sealed.open_for_this_process() == [volume, one, two]
            assert "nosuid" in flags(volume) and "ro" not in flags(volume)
            pathlib.Path(one, "written").write_text("x")
            # Its children may as well, and a rename within the volume is one.
            move = f"touch {two}/y; mv {volume}/two/y {volume}/one/y"
            subprocess.run(["sh", "-ec", move], check=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert all(map(refused, (volume, one, two)))
        assert sorted(os.listdir(one)) == ["written", "y"]
        """,
    )


def test_what_is_mounted_meanwhile_is_seen(in_namespace: InNamespace) -> None:
    in_namespace(
        """
        mount("--make-rshared", volume)
        mount("--make-rshared", "/")
        (opened, told), (go, went) = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            sealed.open_for_this_process()
            os.write(told, b"x")
            os.read(go, 1)
            os._exit(0 if os.path.ismount(f"{volume}/one") else 3)
        os.read(opened, 1)
        mount("-t", "tmpfs", "tmpfs", f"{volume}/one")
        os.write(went, b"x")
        assert os.waitpid(child, 0)[1] == 0
        assert all(map(refused, (volume, one, two)))
        """,
    )


def test_who_is_killed_with_an_open_file_leaves_nothing_open(in_namespace: InNamespace) -> None:
    in_namespace(
        """
        opened, told = os.pipe()
        child = os.fork()
        if not child:
            sealed.open_for_this_process()
            file = open(f"{one}/half", "w")
            file.write("half"), file.flush()
            os.write(told, b"x")
            signal.pause()
        os.read(opened, 1)
        assert all(map(refused, (volume, one, two)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert all(map(refused, (volume, one, two)))
        assert "ro" in flags(one)
        """,
    )


@pytest.mark.parametrize("propagation", ["private", "shared"])
def test_who_opens_again_sees_what_was_mounted_since(
    in_namespace: InNamespace, propagation: str
) -> None:
    """Also where mounts do not reach other namespaces, and where another thread is there."""
    in_namespace(
        f"""
        import threading
        mount("--make-r{propagation}", "/")
        (opened, told), (go, went) = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            assert sealed.open_for_this_process() == [volume, one, two]
            timer = threading.Timer(60, os.abort)
            timer.daemon = True
            timer.start()
            os.write(told, b"x")
            os.read(go, 1)
            assert sealed.open_for_this_process() == [volume, one, two]
            pathlib.Path(two, "written").write_text("x")
            os._exit(0)
        os.read(opened, 1)
        mount("--bind", f"{{volume}}/one", two)
        mount("-o", "remount,bind,ro", two)
        os.write(went, b"x")
        assert os.waitpid(child, 0)[1] == 0
        assert os.listdir(one) == ["written"], "through the mount of two that is new"
        assert all(map(refused, (volume, one, two)))
        """,
    )
