# SPDX-License-Identifier: Apache-2.0
"""What to do about failures that users often meet, by the words of the failure. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: The first pattern that is found counts, so the narrower one stands first. Words of OpenSSH
#: (ssh.c, sshconnect.c), sudo, libc's strerror and Ansible. Python has "[Errno 111] " before those
#: of libc: then it was not SSH that asked.
_TABLE: tuple[tuple[str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key .*has changed",
        "Its SSH host key is another one than the known one: the machine was installed anew, or "
        "another one answers at its address. Find out which; only then write its new key into "
        "cluster.yml (host_keys) or known_hosts.",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        "Its SSH host key is not known. Read it on the machine "
        "(/etc/ssh/ssh_host_ed25519_key.pub), and write it into cluster.yml (host_keys) or "
        "known_hosts.",
    ),
    (
        r"Permission denied \([^)]*(publickey|password|keyboard-interactive)",
        "SSH lets this key or user not in: add the public key to the user's "
        "~/.ssh/authorized_keys on the machine, or correct user and private_key_file.",
    ),
    (
        r"Missing sudo password|sudo: a password is required|Incorrect sudo password"
        r"|Missing become password|sudo: a terminal is required",
        "sudo asks for a password there. Allow the user to become root without one "
        "(NOPASSWD in /etc/sudoers.d), or log in as root.",
    ),
    (
        r"is not in the sudoers file|may not run sudo|is not allowed to (run|execute)",
        "The user may not become root there: add it to sudoers with NOPASSWD, or log in as root.",
    ),
    (
        r"(?<!\] )Connection refused",
        "The machine is up, but no SSH server listens there: start sshd, or correct address "
        "and port.",
    ),
    (
        r"Timeout \(\d+s\) waiting for privilege",
        "sudo did not answer in time there: look at its log (DNS, PAM), or log in as root.",
    ),
    (
        r"(?<!\] )(Connection timed out|Operation timed out)|timed out during banner exchange",
        "Nothing answers: turn the machine on, correct its address, or open the port of SSH in "
        "the firewall between.",
    ),
    (
        r"(?<!\] )(No route to host|Network is unreachable|Host is down)",
        "There is no way to that address from here: turn the machine on, or correct address, "
        "network or routes.",
    ),
    (
        r"Could not resolve hostname|Name or service not known|name resolution",
        "No name server knows that name: correct the address.",
    ),
    (
        r"(?<!\] )Connection (closed by|reset by|to \S+ closed)|kex_exchange_identification",
        "Its SSH server ends connections: look at its log (journalctl -u ssh), and whether it "
        "is starting, full, or bans this address.",
    ),
    (
        r"python\S*: (command )?not found|python\S*: No such file|[Nn]o python interpreters? "
        r"(was |were )?found|interpreter .*(was|were) not found",
        "The machine has no Python 3, which Ansible needs: install python3 there.",
    ),
    (
        r"No space left on device|[Dd]isk quota exceeded|the disk is full",
        "A disk is full there: make room (df -h tells which), then start again.",
    ),
    (
        r"Read-only file system",
        "A file system is read-only there: mount it writable; if it became so by itself, look "
        "at the disk (dmesg).",
    ),
)
_COMPILED = tuple((re.compile(pattern), words) for pattern, words in _TABLE)


def remedy(message: str) -> str:
    """Return what to do about a failure of these words, empty where nothing is known of it."""
    return next((words for pattern, words in _COMPILED if pattern.search(message)), "")


def remedies(failures: Iterable[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Return each remedy once, with the hosts that it is for. ``failures``: host and message."""
    found: dict[str, dict[str, None]] = {}
    for host, message in failures:
        if words := remedy(message):
            found.setdefault(words, {})[host] = None
    return [(words, tuple(hosts)) for words, hosts in found.items()]
