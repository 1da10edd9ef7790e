# SPDX-License-Identifier: Apache-2.0
"""Makes the parts that are missing: fetching runs ahead of compiling.

`go build` keeps all processors busy by itself, so parts are compiled one after another. Downloads
wait for servers, so they run beside it: modules in the order of compilation, Debian packages on
their own.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from kubewright.image.catalogue import (
    DebianPart,
    GoPart,
    PausePart,
    RegistryPart,
    Release,
    UpstreamPart,
)
from kubewright.image.commands import Commands
from kubewright.image.locked import Locked
from kubewright.image.origin import MODULES, Origin
from kubewright.image.parts import MadePart
from kubewright.image.recipes import debian, go, pause, registry, toolchain, upstream
from kubewright.image.recipes.job import Job
from kubewright.image.report import Report

# Small downloads first, so that compiling starts soon; the large ones arrive meanwhile.
_ORDER = ("runc", "cni-plugins", "cni-flannel", "kubernetes")


def make_parts(
    release: Release,
    keys: Mapping[str, str],
    locked: Locked,
    arch: str,
    cache: Path,
    commands: Commands,
    report: Report,
    origin: Origin = MODULES,
) -> None:
    """Make every part of ``keys`` (name -> key). Raises ImageError at the first that fails."""
    if keys:
        _Maker(release, keys, locked, arch, cache, commands, report, origin).run()


class _Maker:
    def __init__(
        self,
        release: Release,
        keys: Mapping[str, str],
        locked: Locked,
        arch: str,
        cache: Path,
        commands: Commands,
        report: Report,
        origin: Origin,
    ) -> None:
        self._release = release
        self._keys = keys
        self._locked = locked
        self._arch = arch
        self._cache = cache
        self._commands = commands
        self._report = report
        self._origin = origin
        self._error: BaseException | None = None

    def run(self) -> None:
        for name in self._keys:
            self._job(name).log.unlink(missing_ok=True)
        names = sorted(self._keys, key=lambda name: (_rank(name), name))
        parts = {name: self._release.parts[name] for name in names}
        go_parts = [name for name in names if isinstance(parts[name], GoPart)]
        with (
            ThreadPoolExecutor(1, "modules") as modules,
            ThreadPoolExecutor(1, "debian") as trees,
        ):
            try:
                if any(isinstance(part, GoPart | PausePart) for part in parts.values()):
                    self._toolchain()
                others = [
                    trees.submit(self._make_other, name) for name in names if name not in go_parts
                ]
                fetched = {name: modules.submit(self._fetch, name) for name in go_parts}
                for future in (*others, *fetched.values()):
                    future.add_done_callback(self._stop_on_error)
                for name in go_parts:
                    self._compile(name, fetched[name])
                for future in others:
                    future.result()
            except BaseException as fault:
                modules.shutdown(wait=False, cancel_futures=True)
                trees.shutdown(wait=False, cancel_futures=True)
                self._commands.stop()
                if isinstance(fault, Exception) and self._error is not None:
                    raise self._error from None
                raise
            finally:
                for name in names:
                    shutil.rmtree(self._directory(name), ignore_errors=True)

    def _stop_on_error(self, future: Future[None]) -> None:
        """End a compilation at once when a download fails beside it, not after minutes."""
        if not future.cancelled() and self._error is None and (error := future.exception()):
            self._error = error
            self._commands.stop()

    def _toolchain(self) -> None:
        chain = self._release.toolchain
        if not toolchain.root(self._cache, chain).is_dir():
            started = time.monotonic()
            toolchain.install(self._cache, chain, self._arch, self._commands)
            self._report.done(f"Go {chain.version} fetched", time.monotonic() - started)

    def _fetch(self, name: str) -> None:
        go.fetch(cast("Job[GoPart]", self._job(name)))

    def _compile(self, name: str, fetched: Future[None]) -> None:
        if not fetched.done():
            self._report.line(f"fetching the modules of {name}")
        fetched.result()
        job = cast("Job[GoPart]", self._job(name))
        programs = " ".join(job.part.binaries)
        label = f"{name} ({programs})" if 1 < len(job.part.binaries) < 10 else name
        started = time.monotonic()
        with self._report.heartbeat(f"building {label}", job.log):
            sources = go.compile_(job)
        self._commit(name, sources, time.monotonic() - started)
        self._report.done(f"{label} built", time.monotonic() - started)

    def _make_other(self, name: str) -> None:
        job = self._job(name)
        started = time.monotonic()
        done = "built"
        if isinstance(job.part, DebianPart):
            sources = debian.make(job, self._locked.debian[name])
        elif isinstance(job.part, UpstreamPart | RegistryPart):
            maker = upstream.make if isinstance(job.part, UpstreamPart) else registry.make
            sources = maker(job)
            done = "fetched"
        else:
            sources = pause.make(cast("Job[PausePart]", job))
        self._commit(name, sources, time.monotonic() - started)
        self._report.done(f"{name} {done}", time.monotonic() - started)

    def _commit(self, name: str, sources: Mapping[str, str], seconds: float) -> None:
        directory = self._directory(name)
        shutil.rmtree(directory / "work", ignore_errors=True)
        made = MadePart.record(name, self._keys[name], seconds, directory / "files", sources)
        made.commit(self._cache, directory)

    def _directory(self, name: str) -> Path:
        return self._cache / "parts" / f".work-{os.getpid()}-{name}"

    def _job(self, name: str) -> Job[Any]:
        directory = self._directory(name)
        for inside in ("work", "files"):
            (directory / inside).mkdir(parents=True, exist_ok=True)
        return Job(
            name=name,
            part=self._release.parts[name],
            release=self._release,
            arch=self._arch,
            cache=self._cache,
            work=directory / "work",
            files=directory / "files",
            log=self._cache / "logs" / f"{self._release.kubernetes}-{name}.log",
            commands=self._commands,
            origin=self._origin,
        )


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
