# SPDX-License-Identifier: Apache-2.0
"""What all operations share: a session that tells what it found, and runs that can be watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kubewright.act import Result, Session
from kubewright.operate.cluster import Cluster
from kubewright.operate.watch import Watch


@contextmanager
def session(
    cluster: Cluster, operation: str, watch: Watch, *, reads: bool = False
) -> Iterator[Session]:
    """Enter to hold the cluster for an operation. ``operation``: its name in the history.

    ``reads``: it changes nothing, and leaves no history.

    :raises kubewright.store.Locked: another operation holds it.
    """
    with Session(cluster.paths, operation, reads=reads) as opened:
        for run in opened.ended:
            watch.note(f"the run {run} was left unfinished by an earlier command; it was ended")
        yield opened


def run(
    opened: Session,
    cluster: Cluster,
    watch: Watch,
    playbook: str,
    extra_vars: Mapping[str, Any],
    options: tuple[str, ...] = (),
) -> Result:
    """Run a playbook to its end, or until ``watch`` cancels it."""
    with watch.running(opened.cancel) as on_event:
        result = opened.run(
            playbook,
            inventory=cluster.file,
            extra_vars=extra_vars,
            options=options,
            on_event=on_event,
        )
    if result.log_error:
        watch.warn(f"the log {result.log} is incomplete: {result.log_error}")
    return result
