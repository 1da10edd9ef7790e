# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Make, grow and repair the system volume.

A file is made under a temporary name and renamed when it is complete, and a device gets its label
last. So neither name nor label ever stands for half a file system.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic, commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import rules
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import guard
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import plan
from ansible_collections.kubewright.cluster.plugins.module_utils._volume.plan import Wanted

BYTES_PER_INODE = 65536  # few and large files; the default would spend 300 MB on inode tables
MKFS_SECONDS = 600.0


def converge(wanted: Wanted, run: commands.Runner, predict: bool) -> list[str]:
    """Make what is missing, or only say what: any of ``create``, ``repair``, ``grow``,
    ``preallocate``.

    Raises `KubewrightError` for a volume that is too small, refused, or can't be relied on.
    """
    if wanted.size < rules.MIN_VOLUME_BYTES:
        raise KubewrightError(
            f"size_bytes is {wanted.size}, but a system volume needs at "
            f"least {rules.MIN_VOLUME_BYTES} bytes: room for the images of two releases and to "
            "change them. Set that or more."
        )
    steps = plan.steps(wanted, run)
    if not predict:
        return apply(wanted, steps, run)
    if not steps:
        require_sound(wanted)
    return steps


def apply(wanted: Wanted, todo: list[str], run: commands.Runner) -> list[str]:
    """Do *todo*, and repair what is not mounted; gives what really changed something.

    Raises `KubewrightError`, also when the volume can't be relied on afterwards.
    """
    done = []
    if "create" not in todo and _repair(wanted, run):
        done.append("repair")
    for step in todo:
        if step == "create":
            (_create_on_device if wanted.is_device else _create_file)(wanted, run)
        elif step == "grow":
            _grow(wanted, run)
        elif not _preallocate(wanted):
            continue
        done.append(step)
    require_sound(wanted)
    return done


def require_sound(wanted: Wanted) -> None:
    """Raise `KubewrightError` when the volume is mounted and can't be relied on."""
    if guard.mount_at(wanted.mount_point) and (found := guard.troubles(wanted.mount_point)):
        raise KubewrightError("\n".join(found))


def mkfs_command(wanted: Wanted, file: Path, label: str) -> list[str]:
    """``mkfs.ext4`` for *file* that keeps what was set aside.

    Without ``nodiscard`` mkfs would free all of it at once, and with ``lazy_itable_init`` the
    kernel would free the inode tables later, when it zeroes them through the loop device. The
    tables are small here, and the journal needs no zeroes.
    """
    options = "nodiscard,lazy_itable_init=0,lazy_journal_init=1"
    shape = ["-i", str(BYTES_PER_INODE), "-m", "0", "-e", "remount-ro", "-E", options]
    return ["mkfs.ext4", "-q", "-F", "-L", label, *shape, str(file)]


def _create_file(wanted: Wanted, run: commands.Runner) -> None:
    temporary = atomic.temporary_for(wanted.path)
    atomic.make_directories(wanted.path.parent)
    atomic.remove_if_there(temporary)
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        _allocate(fd, wanted)
        command = mkfs_command(wanted, temporary, wanted.label)
        commands.check(run(command, timeout=MKFS_SECONDS), "mkfs failed")
        _allocate(fd, wanted)  # mkfs may have zeroed blocks by freeing them
        os.fsync(fd)
        temporary.rename(wanted.path)
    finally:
        os.close(fd)
        atomic.remove_if_there(temporary)
    atomic.fsync_directory(wanted.path.parent)


def _create_on_device(wanted: Wanted, run: commands.Runner) -> None:
    """Until it is complete and on the disk its label says so: one that was cut is made anew."""
    command = mkfs_command(wanted, wanted.path, wanted.label + plan.UNFINISHED)
    commands.check(run(command, timeout=MKFS_SECONDS), "mkfs failed")
    _bring_to_disk(wanted.path)
    named = run(["tune2fs", "-L", wanted.label, str(wanted.path)])
    commands.check(named, f"The file system on {wanted.path} could not be labeled")
    _bring_to_disk(wanted.path)


def _bring_to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _allocate(fd: int, wanted: Wanted) -> None:
    try:
        if wanted.sparse:
            os.ftruncate(fd, wanted.size)
        else:
            os.posix_fallocate(fd, 0, wanted.size)
    except OSError as error:
        place = os.fstatvfs(fd)
        raise KubewrightError(
            f"{wanted.size} bytes for {wanted.path} could not be allocated: {error.strerror}; "
            f"{place.f_bavail * place.f_frsize} bytes are free there. Free some space, or use "
            "a path on a larger file system."
        ) from error


def _preallocate(wanted: Wanted) -> bool:
    with wanted.path.open("r+b") as file:
        before = os.fstat(file.fileno()).st_blocks
        _allocate(file.fileno(), wanted)
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_blocks > before


def _repair(wanted: Wanted, run: commands.Runner) -> bool:
    """Check the file system where nobody uses it, as is done at boot. True: it was repaired."""
    if guard.mount_at(wanted.mount_point) or guard.is_used(wanted.path):
        return False
    checked = run(["e2fsck", "-p", str(wanted.path)], timeout=MKFS_SECONDS)
    if checked.rc not in guard.SOUND:
        raise commands.CommandFailed(guard.damaged(wanted.path), checked)
    return checked.rc == 1


def _grow(wanted: Wanted, run: commands.Runner) -> None:
    """A kill between the steps leaves a larger file, which the next run grows into."""
    mounted = plan.mounted_device(wanted)
    if mounted is None and guard.is_used(wanted.path):
        raise KubewrightError(
            f"{wanted.path} is in use elsewhere (`losetup --associated {wanted.path}`, `lsblk`), "
            "so it was not grown. Release it and run it again."
        )
    if not wanted.is_device:
        _enlarge(wanted)
    if mounted is None:
        checked = run(["e2fsck", "-f", "-p", str(wanted.path)], timeout=MKFS_SECONDS)
        if checked.rc not in guard.SOUND:
            raise commands.CommandFailed(guard.damaged(wanted.path), checked)
    elif not wanted.is_device:
        told = run(["losetup", "--set-capacity", str(mounted)])
        commands.check(told, f"{mounted} did not take the new size of {wanted.path}")
    grown = run(["resize2fs", str(mounted or wanted.path)], timeout=MKFS_SECONDS)
    commands.check(
        grown,
        f"{wanted.path} could not be grown. Where the kernel refuses that while it is mounted: "
        "drain the node and reboot it, it grows before it is mounted",
    )


def _enlarge(wanted: Wanted) -> None:
    """A full disk leaves the file as it was: what was set aside in vain is given back."""
    with wanted.path.open("r+b") as file:
        before = os.fstat(file.fileno()).st_size
        try:
            _allocate(file.fileno(), wanted)
        except KubewrightError:
            file.truncate(before)
            raise
        os.fsync(file.fileno())
