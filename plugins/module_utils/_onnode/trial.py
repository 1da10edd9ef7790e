# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A node tries a new system image, and goes back by itself.

This very file, and `trial_node`, also lie on each node, outside of any image, where systemd runs
them without the collection, so they need nothing but Python's standard library. Whoever activates
an image writes an order (`Order`) first. The trial then looks at the node alone: whether the
runtime and the kubelet run from the new image and are healthy. An API server that is away condemns
no image. Where they are not healthy in time, image *and* configuration of the generation before
become active again, and the image is marked with the reason: it is not tried again by itself.

A cut at any moment leaves either generation whole; what is left of an order is taken up at boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._onnode.trial_node import (
    NOT_RUN,
    Node,
)

STATE = Path("/var/lib/kubewright")
ORDER = "trial.json"  # beside the volume
RECORD = "generation.json"
MANIFESTS = Path("/etc/kubernetes/manifests")
LOCK = Path("/run/kubewright/node.lock")

#: Seconds. Promised is that a node is back within three minutes from when it has its lock.
LIMIT, SETTLED, POLL, SWITCH = 100.0, 20.0, 2.0, 15.0
#: So long a run may take from the switch to the mount: with many nodes, each step goes through all.
AWAITED = 900.0
#: A machine that reboots again and again under a new image goes back as well.
BOOTS = 3


@dataclass(frozen=True)
class Order:
    """What to try: a generation, the one to go back to, and what must not have changed since.

    *manifests*: SHA-256 of each static pod's manifest. Where kubeadm has changed one, the cluster
    has gone on, and there is no way back: etcd never goes back.
    """

    generation: int
    previous: int
    manifests: Mapping[str, str] = field(default_factory=dict)
    boots: tuple[str, ...] = ()


def manifests(directory: Path = MANIFESTS) -> dict[str, str]:
    """SHA-256 of each manifest by name; empty where there are none."""
    if not directory.is_dir():
        return {}
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


def write_order(state: Path, order: Order) -> None:
    """Write it beside the volume, on disk when this returns."""
    _write(state / ORDER, asdict(order))


def read_order(state: Path) -> Order | None:
    """The order that is there, None for none or one that was cut."""
    try:
        data = json.loads((state / ORDER).read_bytes())
        return Order(
            int(data["generation"]),
            int(data["previous"]),
            {str(name): str(digest) for name, digest in data["manifests"].items()},
            tuple(map(str, data["boots"])),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, document: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.kubewright-tmp")
    with temporary.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        json.dump(document, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


ANOTHER = "another order came"
OVERTAKEN = 75  # status of a switch that came too late: another image is active or ordered


@dataclass
class Trial:
    """One trial; the clock and the node can be replaced. *tell* takes a line for the journal."""

    node: Node
    state: Path = STATE
    manifests: Path = MANIFESTS
    tell: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    lock: Path = LOCK
    boot: Callable[[], str] = lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    @property
    def volume(self) -> Path:
        """Where the system volume is mounted."""
        return self.state / "system"

    def run(self) -> str:
        """Try what is ordered; gives ``nothing``, ``kept``, ``left`` or ``went back``."""
        order = read_order(self.state)
        # Whoever went back may have been cut before he restarted anything.
        word = self._restart(order) if order and _went_back(self.volume, order) else ANOTHER
        while word == ANOTHER:
            order = self._begin()
            word = self._judge(order, self._watch(order)) if order else "nothing"
        return word

    def _begin(self) -> Order | None:
        """The order with this boot in it, None for none.

        Whatever is active and is not the one to go back to is tried: who ordered another one may
        have been cut before he switched.
        """
        with self._locked():
            order, active = read_order(self.state), _active(self.volume)
            if order is None or not active:
                self._forget()
                return None
            tried = order.generation if active == order.previous else active
            boots = tuple(dict.fromkeys([*order.boots, self.boot()]))
            order = replace(order, generation=tried, boots=boots)
            write_order(self.state, order)
            return order

    def _judge(self, order: Order, reason: str) -> str:
        if reason == ANOTHER:
            return ANOTHER
        if _active(self.volume) != order.generation:
            return self._end(order, order.previous, "nothing")  # it was never switched to
        if not reason:
            self.tell(f"generation {order.generation} runs well: it stays")
            return self._end(order, order.generation, "kept")
        if manifests(self.manifests) != order.manifests:
            self.tell(f"{reason}; kubeadm has changed a static pod since, so it can't roll back")
            return self._end(order, order.generation, "left")
        return self._go_back(order, reason)

    def _watch(self, order: Order) -> str:
        """Look until it has been well for long enough, or until time is over: then why."""
        if len(order.boots) > BOOTS:
            # There may be no time to watch: it would boot again meanwhile.
            return f"the machine booted {len(order.boots)} times during the trial"
        begun, limit = self.clock(), AWAITED
        well_since: float | None = None
        while True:
            ordered, active = read_order(self.state), _active(self.volume)
            known = ordered is not None and ordered.generation == order.generation
            if not known or active not in (order.generation, order.previous):
                return ANOTHER
            switched = active == order.generation  # the order comes before it
            trouble = self.node.trouble(self.volume, order.generation) if switched else NOT_RUN
            now = self.clock()
            if limit == AWAITED and trouble != NOT_RUN:
                begun, limit = now, LIMIT
            well_since = None if trouble else now if well_since is None else well_since
            if well_since is not None and now - well_since >= SETTLED:
                return ""
            if now - begun >= (limit if switched else LIMIT):
                return trouble or "it does not stay up"
            self.sleep(POLL)

    def _go_back(self, order: Order, reason: str) -> str:
        """Make the generation before active again, mark this one, run everything from there."""
        self.tell(f"generation {order.generation} is given up: {reason}")
        # What was never run was not at fault: it may be tried again.
        mark = {"rolled_back": True, **({} if reason == NOT_RUN else {"condemned": reason})}
        words = [str(self.volume), str(order.generation), str(order.previous), json.dumps(mark)]
        program = [sys.executable, str(Path(__file__).resolve()), "switch", *words]
        with self._locked() as lock:
            status, said = self.node.run(
                *opening(self.volume), *program, timeout=SWITCH, pass_fds=[lock]
            )
        if status == OVERTAKEN:
            self.tell("another image was activated meanwhile")
            return ANOTHER
        if status != 0:
            raise OSError(f"generation {order.previous} could not be activated: {said}")
        return self._restart(order)

    def _restart(self, order: Order) -> str:
        wrong = self.node.restart()
        self.tell(f"generation {order.previous} is active again{wrong}")
        return self._end(order, order.previous, "went back")

    def _end(self, order: Order, active: int, word: str) -> str:
        """Remove the order, and give *word*; `ANOTHER` where a newer one has come meanwhile."""
        with self._locked():
            if not _holds(self.volume, order.generation, active):
                return ANOTHER
            self._forget()
        return word

    def _forget(self) -> None:
        (self.state / ORDER).unlink(missing_ok=True)
        _sync(self.state)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the node's lock, and give its descriptor, for what is started to hold it as well.

        Nothing is written without it, however long that takes: a run that has it ends in time.
        """
        with contextlib.ExitStack() as stack:
            while True:
                self.lock.parent.mkdir(parents=True, exist_ok=True)
                fd = stack.enter_context(self.lock.open("a")).fileno()
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.tell(f"waits for another process to let go of {self.lock}")
                    fcntl.flock(fd, fcntl.LOCK_EX)
                # Or who held it has reset the node, and the file with it.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), self.lock.lstat()):
                        break
            yield fd


def _active(volume: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((volume / "active").readlink().name)
    return 0


def _holds(volume: Path, generation: int, active: int) -> bool:
    """Whether *generation* is what is to be tried still, and *active* what is active."""
    order = read_order(volume.parent)
    return order is not None and (order.generation, _active(volume)) == (generation, active)


def _went_back(volume: Path, order: Order) -> bool:
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((volume / f"generations/{order.generation}" / RECORD).read_bytes())
        return bool(record.get("rolled_back")) and _active(volume) == order.previous
    return False


def opening(volume: Path) -> tuple[str, ...]:
    """What runs a command that may write to *volume*, which is read-only to all others."""
    script = f"""
        mount -o remount,bind,rw {volume}
        exec "$@"
    """
    return (*("unshare", "--mount", "--propagation", "slave", "sh", "-ec"), script, "trial")


def switch(volume: Path, generation: int, previous: int, mark: Mapping[str, Any]) -> None:
    """Mark *generation* and make *previous* active, by two renames; the mark comes first."""
    record = volume / "generations" / str(generation) / RECORD
    _write(record, {**json.loads(record.read_bytes()), **mark})
    temporary = volume / ".active.kubewright-tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(f"generations/{previous}")
    temporary.rename(volume / "active")
    _sync(volume)


def main(words: list[str]) -> int:
    """Try, or be the part that switches; gives the exit status."""
    if words[:1] == ["switch"]:
        if not _holds(Path(words[1]), int(words[2]), int(words[2])):
            return OVERTAKEN
        switch(Path(words[1]), int(words[2]), int(words[3]), json.loads(words[4]))
        return 0
    return 1 if Trial(Node()).run() == "went back" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
