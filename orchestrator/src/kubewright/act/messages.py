# SPDX-License-Identifier: Apache-2.0
"""The reason in a module's result, and ansible-playbook's own complaints. Pure."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kubewright.act.refusals import FIELD

#: Messages of Ansible that say only that something failed; the reason is in another field.
_EMPTY_WORDS = re.compile(
    r"(non-zero return code|module failure|one or more items failed)"
    r"|.+ exited with code \d+\b",  # containers.podman
    re.IGNORECASE,
)
#: What a terminal obeys instead of showing it (ECMA-48, in 7 and in 8 bits): strings that end with
#: ST (or BEL, as xterm has it), CSI and its parameters, ESC and its final character; then whatever
#: else is a control character, so that no ESC is left, but for blanks and line ends.
_CONTROL = re.compile(
    r"(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x18\x1a\x1b\x80-\x9f]*(?:\x1b\\|[\x07\x9c])"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
#: Who passed on what ssh said.
_CARRIER = re.compile(r"^(Task failed: |Failed to connect to the host via ssh: )+(ssh: )?")
_LINES = 6
#: Of a task whose result nobody may see.
HIDDEN = "the output is hidden, because it may contain secrets (no_log); see the log after [ERROR]"


def plain(text: str) -> str:
    """Return text without what a terminal would obey; a carriage return ends a line."""
    return _CONTROL.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def failure_message(result: Mapping[str, Any]) -> str:
    """Return why a task failed, in a few lines, from its result.

    What code of ours refused is there as data (:mod:`kubewright.act.refusals`).
    """
    if refusal := plain(str(result.get(FIELD) or "")).strip():
        return refusal
    if "censored" in result:
        return HIDDEN
    message = plain(str(result.get("msg") or "")).strip()
    if message and not _EMPTY_WORDS.match(message):
        return message
    details = next(
        (
            plain(str(result[key])).strip()
            for key in ("stderr", "module_stderr", "stdout", "module_stdout", "exception")
            if result.get(key)
        ),
        "",
    )
    lines = "\n".join(details.splitlines()[-_LINES:])
    code = f" (exit status {result['rc']})" if result.get("rc") not in (None, 0) else ""
    return f"{message}{code}: {lines}" if lines else f"{message or 'no reason given'}{code}"


def named(names: Iterable[str], most: int = 5) -> str:
    """Return ``a, b and 3 more``."""
    known = list(names)
    more = len(known) - most
    return ", ".join(known[:most]) + (f" and {more} more" if more > 0 else "")


def reason(message: str) -> str:
    """Return why a host could not be reached in one line, from the message of the failure.

    Of several lines ssh's last one is the reason; what stands before are warnings and banners.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return _CARRIER.sub("", lines[-1]) if lines else ""


def complaint(output: Iterable[str]) -> str:
    """Return what ansible-playbook said when it ended before any task.

    Its warnings too: the last error may be only that an inventory failed, without the reason.
    These words are all there is: Ansible makes events of tasks alone.
    """
    lines = [line for line in (plain(raw).rstrip() for raw in output) if line]
    for number, line in enumerate(lines):
        if re.match(r"\[?(ERROR|WARNING)\]?[!:]", line) or "rror:" in line:
            return "\n".join(lines[number : number + _LINES * 3])
    return "\n".join(lines[-_LINES:]) or "ansible-playbook exited without a message"


def system_error(error: OSError, near: str = "") -> str:
    """Return what the system said of which file, empty where it gave no reason.

    What is noticed at a descriptor, such as a full disk, has no file's name: ``near`` says where
    what was full may be.
    """
    if not error.strerror:
        return ""
    place = near if error.filename is None and is_full(error) else error.filename
    return f"{place}: {error.strerror}" if place else error.strerror


def is_full(error: OSError) -> bool:
    """Whether a disk, or what its user may take of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
