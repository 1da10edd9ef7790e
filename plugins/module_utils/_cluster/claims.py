# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""By what right a run writes, and how a node remembers it.

A run claims nodes with an epoch, a number above all that it knows of, and its id. Two controllers
that do not know each other count to the same number: the id tells them apart.
"""

from __future__ import annotations

import datetime
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

EPOCH_PATH = Path("/var/lib/kubewright/epoch")

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def new_run_id(now: datetime.datetime | None = None, *, job: int = 0) -> str:
    """An id that no other run has and that sorts by time: ``20260102T030405-1a2b3c4d``.

    *job*: of a run that is a job of AWX, its number, by which it begins instead.
    """
    moment = (now or datetime.datetime.now(datetime.timezone.utc)).astimezone(datetime.timezone.utc)
    begun = f"awx-{job}" if job else f"{moment:%Y%m%dT%H%M%S}"
    return f"{begun}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Claim:
    """`run` is empty where nobody said it: a play of somebody's own, or a version before runs."""

    epoch: int = 0
    run: str = ""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Claim | None:
        """From a module's ``epoch`` and ``run``; None for a task without an epoch."""
        if params["epoch"] is None:
            return None
        run = params["run"] or ""
        if run and not _RUN.fullmatch(run):
            raise KubewrightError(
                f"run: {run!r} is not a valid run id. Use at most 64 letters, "
                "digits, dots, dashes and underscores, or omit it."
            )
        return cls(params["epoch"], run)

    @classmethod
    def parse(cls, text: str) -> Claim:
        """From a node's file: the number, and behind it the run. Raises ValueError."""
        number, _, run = text.strip().partition(" ")
        if run and not _RUN.fullmatch(run):
            raise ValueError(text)
        return cls(int(number), run)

    @classmethod
    def all_of(cls, told: Iterable[Mapping[str, Any]]) -> list[Claim]:
        """From what nodes say (`as_dict`)."""
        return [cls(one["epoch"], one.get("run") or "") for one in told]

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return {"epoch": self.epoch, "run": self.run}

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" (run {self.run})" if self.run else "")

    def is_over(self, other: Claim) -> bool:
        """Whether a node that *other* has claimed last obeys this one."""
        return self == other or self.epoch > other.epoch


def read(path: Path) -> Claim:
    """Who has claimed this node last; epoch 0 when nobody did."""
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return Claim()
    except UnicodeDecodeError:
        text = "something that is not text"
    try:
        return Claim.parse(text)
    except ValueError as error:
        raise KubewrightError(
            f"{path} contains {text[:40]!r} instead of a number; write the epoch of the "
            f"last run into it (or remove it if no other run can be in progress) and run it again."
        ) from error


def write(path: Path, claim: Claim) -> None:
    """Remember it."""
    atomic.make_directories(path.parent)
    atomic.write_file(path, f"{claim.epoch} {claim.run}".rstrip().encode() + b"\n", mode=0o644)


def refusal(path: Path, known: Claim, claim: Claim) -> str:
    """Why *claim* is not obeyed on a node that *known* has, and what to do."""
    try:
        moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
        since = f" since {moment:%Y-%m-%d %H:%M:%S} UTC"
    except FileNotFoundError:
        since = ""
    if claim.epoch < known.epoch:
        return (
            f"This run has {claim}, but {known} has written to this node{since}: a newer run "
            "took over. Nothing was changed. Run it again to take a new epoch."
        )
    return (
        f"Another run owns this node{since}: {known}. This one has {claim}: it was started with "
        "another state directory. Nothing was changed. Wait until that run has finished, then run "
        "it again, which takes a higher epoch. Better: always use the same state directory."
    )
