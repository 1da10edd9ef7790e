# SPDX-License-Identifier: Apache-2.0
"""What either side takes as given, made before any clock runs."""

from __future__ import annotations

import subprocess

from neighbour import COMMAND, REPOSITORY, VERSION
from telling import Failed, say

from kubewright.image.paths import cache_dir


def prepare() -> None:
    """Make the system images and the machines' image, unless they are there.

    :raises Failed: one of them can't be made; why is on stderr.
    """
    script = REPOSITORY / "roles/provider_local/files/machine_image.sh"
    _run("system images", [str(COMMAND), "image", "build", VERSION])
    _run("machine image", ["bash", str(script), str(cache_dir() / "machine")])


def _run(what: str, command: list[str]) -> None:
    say(f"{what}: made, unless they are there")
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        try:
            status = process.wait()
        except BaseException:
            process.terminate()  # its end is waited for
            raise
    if status != 0:
        raise Failed(f"{what}: {' '.join(command)}: exit status {status}")
