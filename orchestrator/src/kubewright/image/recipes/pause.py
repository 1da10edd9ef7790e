# SPDX-License-Identifier: Apache-2.0
"""The sandbox container's program, compiled as upstream's Makefile does it."""

from __future__ import annotations

from pathlib import Path

from kubewright.image.catalogue import PausePart
from kubewright.image.recipes.go import go_json
from kubewright.image.recipes.job import Job

RECIPE = 1


def make(job: Job[PausePart]) -> dict[str, str]:
    """Compile the C file of the module into a static program."""
    ((path, component),) = job.part.modules.items()
    module = f"{path}@{job.release.versions[component]}"
    description = go_json(
        job.cache, job.release.toolchain, job.arch, "mod", "download", "-json", module
    )
    program = job.files / "pause"
    job.commands.run(
        [
            *("gcc", "-Os", "-Wall", "-static", "-s"),
            f"-DVERSION=v{job.release.versions['pause']}",
            *("-o", program, Path(description["Dir"]) / job.part.source),
        ],
        what="compiling pause",
        log=job.log,
    )
    program.chmod(0o755)
    return {"pause": f"module {module} {job.part.source}"}
