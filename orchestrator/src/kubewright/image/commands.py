# SPDX-License-Identifier: Apache-2.0
"""Running the programs that builds need: output to a log, errors in words, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubewright.image.errors import ImageError

_TAIL_LINES = 12
# What the programs print when a server can't be reached, whatever they were doing.
_NETWORK_SIGNS = (
    "dial tcp",
    "i/o timeout",
    "no such host",
    "proxyconnect",
    "Temporary failure resolving",
    "Could not resolve",
    "Could not connect",
    "TLS handshake timeout",
    "Failed to establish a new connection",
)


class Commands:
    """Starts programs and waits for them; :meth:`stop` ends all that run, from any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        what: str,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: Path | None = None,
    ) -> None:
        """Run ``argv`` with all its output appended to ``log``, or its ``stdout`` to that file.

        ``what`` names the work in an error: "compiling coredns". Raises ImageError when the
        program is missing, fails or was stopped.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("ab"))
            result = files.enter_context(stdout.open("wb")) if stdout else output
            output.write(f"$ {' '.join(map(str, argv))}\n".encode())
            output.flush()
            start = output.tell()
            process = self._start(argv, what, cwd, env, result.fileno(), output.fileno())
            try:
                status = process.wait()
            except BaseException:
                _end(process)
                raise
            finally:
                with self._mutex:
                    self._running.discard(process)
        if status != 0:
            raise self._failure(what, status, log, start)

    def stop(self) -> None:
        """End every program that runs and refuse to start more."""
        with self._mutex:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _end(process)

    def _start(
        self,
        argv: Sequence[str | Path],
        what: str,
        cwd: Path | None,
        env: Mapping[str, str] | None,
        output: int,
        errors: int,
    ) -> subprocess.Popen[bytes]:
        with self._mutex:
            if self._stopped:
                raise ImageError(f"Stopped before {what}.", "Run the command again.")
            try:
                process = subprocess.Popen(
                    [str(word) for word in argv],
                    cwd=cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    # Its own group: stop() reaches the compilers that go starts, too.
                    start_new_session=True,
                )
            except FileNotFoundError as fault:
                raise ImageError(
                    f"{what[:1].upper()}{what[1:]} failed: the program {argv[0]} was not found.",
                    "Install it and run the command again.",
                ) from fault
            self._running.add(process)
            return process

    def _failure(self, what: str, status: int, log: Path, start: int) -> ImageError:
        if self._stopped:
            return ImageError(f"Stopped while {what}.", "Run the command again.")
        with log.open("rb") as output:
            output.seek(start)
            text = output.read().decode(errors="replace")
        tail = "\n".join(text.strip().splitlines()[-_TAIL_LINES:])
        reason = f"signal {-status}" if status < 0 else f"status {status}"
        if any(sign in text for sign in _NETWORK_SIGNS):
            remedy = (
                "A server could not be reached: check the network and the proxy settings"
                " (https_proxy, GOPROXY) and run the command again; what was downloaded"
                f" is kept. The full output is in {log}."
            )
        elif "No space left on device" in text:
            remedy = "Free some space (a build needs about 15 GB in the cache) and run it again."
        else:
            remedy = f"The full output is in {log}. What was built so far is kept."
        return ImageError(f"{what[:1].upper()}{what[1:]} failed ({reason}):\n{tail}\n", remedy)


def output_of(argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str | None:
    """Standard output of a quick query, or None when the program is missing or says no."""
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
