# SPDX-License-Identifier: Apache-2.0
"""Programs out of Go modules, under the checksum database.

Each part has a go.mod of its own that requires the module, whose ``replace`` lines don't count
then. Where they point to staging directories, ours point to the published modules of the same
release. Nothing is left to "latest": go takes the versions that the module's own go.mod lists.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from kubewright.image.catalogue import GoPart
from kubewright.image.errors import ImageError
from kubewright.image.recipes import toolchain
from kubewright.image.recipes.job import Job

# Counts up when this recipe makes something else out of the same inputs.
RECIPE = 2
# What `-ldflags -s -w` would strip is not made in the first place. Measured on containerd: 19 %
# less processor time, a build cache smaller by 22 %, programs of the same size to the byte.
_NO_DEBUG_INFORMATION = "-gcflags=all=-dwarf=false"


def fetch(job: Job[GoPart]) -> None:
    """Download the modules and write the go.mod; network-bound, one processor at most."""
    job.work.mkdir(parents=True, exist_ok=True)
    path, version = _first_module(job)
    description = _go_json(job, "mod", "download", "-json", f"{path}@{version}")
    own = _go_json(job, "mod", "edit", "-json", description["GoMod"])
    if job.part.without is not None:
        _copy_tree(job, Path(description["Dir"]))
    else:
        (job.work / "go.mod").write_text(go_mod(job.name, modules(job), own, job.part.staging))
    # Resolves and downloads exactly the modules that the packages need (not those of tests).
    job.commands.run(
        ["go", "list", "-mod=mod", "-deps", *_flags(job), *sorted(job.part.binaries.values())],
        what=f"fetching the modules of {job.name}",
        log=job.log,
        cwd=job.work,
        env=_environment(job),
    )


def compile_(job: Job[GoPart]) -> dict[str, str]:
    """Compile and link; uses all processors. :func:`fetch` has run before."""
    output = job.work / "out"
    output.mkdir()
    command = ["go", "build", "-v", "-mod=mod", "-trimpath", "-buildvcs=false"]
    command += [_NO_DEBUG_INFORMATION, *_flags(job)]
    if flags := job.release.ldflags(job.part):
        command += ["-ldflags", flags]
    packages = job.part.binaries
    job.commands.run(
        # One invocation for all programs: what they share is compiled once, and links overlap.
        [*command, "-o", f"{output}/", *sorted(packages.values())],
        what=f"compiling {job.name}",
        log=job.log,
        cwd=job.work,
        env=_environment(job),
    )
    sources = {}
    for binary, package in packages.items():
        (output / program_name(package)).rename(job.files / binary)
        (job.files / binary).chmod(0o755)
        sources[binary] = _source(package, modules(job))
    return sources


def modules(job: Job[GoPart]) -> dict[str, str]:
    """Required modules with their versions."""
    return {path: job.release.versions[name] for path, name in job.part.modules.items()}


def go_mod(name: str, required: dict[str, str], own: dict[str, Any], staging: bool) -> str:
    """The text of a go.mod that requires ``required``.

    ``own`` is the first module's go.mod as `go mod edit -json` prints it: its language version and
    debug settings are taken over, because they decide how the programs behave.
    """
    lines = [f"module kubewright.local/{name}", "", f"go {own['Go']}", ""]
    lines += [f"godebug {item['Key']}={item['Value']}" for item in own.get("Godebug") or []]
    lines += [f"require {path} {version}" for path, version in required.items()]
    if staging:
        # Kubernetes v1.37.2 <-> staging modules v0.37.2
        version = re.sub(r"^v1\.", "v0.", next(iter(required.values())))
        lines += [
            f"replace {item['Old']['Path']} => {item['Old']['Path']} {version}"
            for item in own.get("Replace") or []
            if item["New"]["Path"].startswith("./staging/")
        ]
    return "\n".join(lines) + "\n"


def program_name(package: str) -> str:
    """The file name that `go build` gives a program: the last element that is no major version."""
    elements = package.split("/")
    return elements[-2] if re.fullmatch(r"v\d+", elements[-1]) else elements[-1]


def _source(package: str, required: dict[str, str]) -> str:
    module = next(path for path in required if f"{package}/".startswith(f"{path}/"))
    inside = package.removeprefix(module).lstrip("/")
    return f"module {module}@{required[module]} {inside}".strip()


def _copy_tree(job: Job[GoPart], tree: Path) -> None:
    """Copy a module's tree and take out what ``without`` names."""
    without = job.part.without
    assert without is not None
    path, _ = _first_module(job)
    shutil.copytree(tree, job.work, dirs_exist_ok=True)
    for directory in (job.work, *job.work.rglob("*")):
        directory.chmod(directory.stat().st_mode | 0o200)  # the module cache may be read-only
    (job.work / "go.sum").unlink(missing_ok=True)
    for package in without.packages:
        shutil.rmtree(job.work / package.removeprefix(path).lstrip("/"))
    imports = re.compile(
        rf'^\s*(import\s+)?_\s+"({"|".join(map(re.escape, without.packages))})"\s*$\n', re.MULTILINE
    )
    for file in job.work.rglob("*.go"):
        text = file.read_text()
        if (shorter := imports.sub("", text)) != text:
            file.write_text(shorter)
    lines = (job.work / "go.mod").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not any(name in line for name in without.requires)]
    (job.work / "go.mod").write_text("".join(kept))


def _flags(job: Job[GoPart]) -> list[str]:
    return ["-tags", ",".join(job.part.tags)] if job.part.tags else []


def _environment(job: Job[GoPart]) -> dict[str, str]:
    return toolchain.environment(job.cache, job.release.toolchain, job.arch, job.part.cgo)


def _first_module(job: Job[GoPart]) -> tuple[str, str]:
    return next(iter(modules(job).items()))


def _go_json(job: Job[GoPart], *words: str) -> dict[str, Any]:
    return go_json(job.cache, job.release.toolchain, job.arch, *words)


def go_json(cache: Path, chain: Any, arch: str, *words: str) -> dict[str, Any]:
    """What a `go` command prints as JSON. Raises ImageError with its message."""
    done = subprocess.run(
        ["go", *words],
        env=toolchain.environment(cache, chain, arch, cgo=False),
        # Outside any module: the nearest go.mod of the caller's directory has no say.
        cwd=toolchain.root(cache, chain),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        answer = {"Error": done.stderr.decode(errors="replace").strip()}
    if done.returncode != 0 or answer.get("Error"):
        raise ImageError(
            f"`go {' '.join(words)}` failed: {answer.get('Error')}.",
            "Check that the module proxy (GOPROXY) can be reached, and run the command again.",
        )
    return answer
