# SPDX-License-Identifier: Apache-2.0
"""Machines that take a connection and don't answer: what hangs there, until the body has ended."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from machines import container, run_on
from waiting import NotYet, until

#: Read by whoever looks at the node's certificates, and by nobody else while they are good.
PLACE = "/var/lib/kubelet/pki"
#: A file system that takes each request and answers none (include/uapi/linux/fuse.h): the kernel
#: lets no process that waits for it end. All that wait are released when this one ends.
FUSE_INIT = 26
SERVER = f"""
import ctypes, os, struct, sys
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={{fuse}},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hanging", b"{PLACE}", b"fuse.hanging", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
_, opcode, unique = struct.unpack_from("=IIQ", os.read(fuse, 1 << 17))
assert opcode == {FUSE_INIT}
answer = struct.pack("=IIIIHHII32x", 7, 31, 0, 0, 0, 0, 4096, 1)
os.write(fuse, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)
print("mounted", flush=True)
while True:
    os.read(fuse, 1 << 17)
"""


@contextmanager
def sshd(machine: str) -> Iterator[None]:
    """Its sshd stands still, with all its sessions; the kernel goes on to take connections."""
    run_on(machine, ["pkill", "-STOP", "-x", "sshd"])
    try:
        yield
    finally:
        run_on(machine, ["pkill", "-CONT", "-x", "sshd"])


@contextmanager
def file_system(machine: str) -> Iterator[None]:
    """A file system of it answers nobody."""
    command = ["podman", "exec", "-i", container(machine), "python3", "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        try:
            assert served.stdout.readline() == "mounted\n"
            yield
        finally:
            run_on(machine, ["pkill", "-KILL", "-f", "fuse.hanging"])
            run_on(machine, ["umount", "--lazy", PLACE])
            served.wait(30)


@contextmanager
def machine(machine: str) -> Iterator[None]:
    """All of it stands still."""
    _podman("pause", machine)
    try:
        yield
    finally:
        _podman("unpause", machine)


def stuck(machine: str) -> list[str]:
    """The processes of a machine that the kernel does not let end."""
    listed = run_on(machine, ["ps", "-A", "-o", "pid=,stat=,args="]).splitlines()
    return [line for line in listed if line.split()[1].startswith("D")]


def released(machine: str) -> None:
    """Wait until nothing is stuck there any more."""

    def look() -> None:
        if left := stuck(machine):
            raise NotYet("\n".join(left))

    until("released", look, limit=60)


def _podman(verb: str, machine: str) -> None:
    subprocess.run(["podman", verb, container(machine)], check=True, timeout=60)
