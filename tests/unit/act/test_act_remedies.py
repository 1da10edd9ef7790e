# SPDX-License-Identifier: Apache-2.0
"""Failures that users often meet: each has its remedy, and others have none."""

from __future__ import annotations

import pytest

from kubewright.act.messages import reason
from kubewright.act.remedies import remedies, remedy

SSH = "Task failed: Failed to connect to the host via ssh: "
CHANGED = (
    SSH + "@@@@@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
    "Offending ED25519 key in /x/known_hosts:1\nHost key verification failed."
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f"{SSH}ssh: connect to host 192.0.2.1 port 22: Connection refused", "Start sshd"),
        (f"{SSH}ssh: connect to host 192.0.2.1 port 22: Connection timed out", "Power it on"),
        (f"{SSH}Connection timed out during banner exchange", "Power it on"),
        (
            f"{SSH}ssh: connect to host 192.0.2.1 port 22: No route to host",
            "Its address can't be reached",
        ),
        (f"{SSH}ssh: Could not resolve hostname nowhere: Name or service not known", "DNS"),
        (
            f"{SSH}kex_exchange_identification: Connection closed by remote host",
            "journalctl -u ssh",
        ),
        (CHANGED, "SSH host key has changed"),
        (f"{SSH}Host key verification failed.", "is unknown"),
        (f"{SSH}No ED25519 host key is known for 192.0.2.1 and you ...", "is unknown"),
        (f"{SSH}root@192.0.2.1: Permission denied (publickey,password).", "authorized_keys"),
        ("Task failed: Missing sudo password", "visudo -f /etc/sudoers.d/zz-kubewright"),
        ("Timeout (12s) waiting for privilege escalation prompt: ", "sudo did not answer in time"),
        ("sudo: a password is required", "NOPASSWD"),
        ("kim is not in the sudoers file.", "sudoers"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "Install python3"),
        ("bash: line 1: /usr/bin/python3: No such file or directory", "Install python3"),
        ("write /var/lib/x: No space left on device", "Free some space"),
        ("open /etc/x: Read-only file system", "Mount it writable"),
    ],
)
def test_each_has_its_remedy(message: str, words: str) -> None:
    assert words in remedy(message)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "the checksum differs",
        "Permission denied: /etc/x",
        "/etc/x: No such file",
        # An API server's, as Python says it.
        "no API server answers (192.0.2.11: [Errno 111] Connection refused)",
        "no API server answers (192.0.2.11: [Errno 110] Connection timed out)",
        "no API server answers (192.0.2.11: [Errno 113] No route to host)",
        "no API server answers (192.0.2.11: [Errno 104] Connection reset by peer)",
        # kubeadm's, as Go says it.
        "dial tcp 192.0.2.11:6443: connect: connection refused",
    ],
)
def test_of_others_nothing_is_claimed(message: str) -> None:
    assert remedy(message) == ""


def test_a_remedy_is_told_once_with_its_hosts() -> None:
    refused = "Connection refused"
    told = remedies([("a", refused), ("b", "odd"), ("c", refused), ("a", refused)])
    assert told == [(remedy(refused), ("a", "c"))]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            f"{SSH}ssh: connect to host 192.0.2.1 port 22: Connection refused",
            "connect to host 192.0.2.1 port 22: Connection refused",
        ),
        (CHANGED, "Host key verification failed."),
        ("", ""),
    ],
)
def test_the_reason_is_one_line(message: str, words: str) -> None:
    assert reason(message) == words
