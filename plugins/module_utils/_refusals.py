# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: why a host did not answer, from what SSH and sudo say. Pure.

Patterns are words of OpenSSH's client (ssh.c, sshconnect.c), sudo, the shell and ansible-core.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LAST_LINES = 3
# The check of what is no silence: the machine was reached, and could not be looked at.
PROBE = "probe"


class Refusal(NamedTuple):
    """What happened, and what to do."""

    check: str
    text: str
    remedy: str


# The first that fits: what is more special stands before what also appears beside it.
KNOWN: tuple[tuple[str, Refusal], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key .* has changed",
        Refusal(
            "ssh",
            "It shows another SSH host key than the known one: the machine was made anew, or "
            "another one answers at its address.",
            "Find out which. If it was made anew, replace the key where it is known: host_keys in "
            "cluster.yml, or `ssh-keygen -R ADDRESS` and one connection by hand.",
        ),
    ),
    (
        r"No \S+ host key is known|Host key verification failed|authenticity of host",
        Refusal(
            "ssh",
            "Its SSH host key is not known, so nobody can say that this is the machine.",
            "Connect once by hand (`ssh ADDRESS`) and compare the fingerprint with the one on the "
            "machine's console, or put the key into host_keys in cluster.yml.",
        ),
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE|Load key .*bad permissions",
        Refusal(
            "ssh",
            "ssh refuses the private key's file, because others can read it.",
            "Close it: `chmod 600 FILE`.",
        ),
    ),
    (
        r"Permission denied \(",
        Refusal(
            "ssh",
            "It does not let us in: the user or the SSH key is not accepted (permission denied).",
            "Put the public key into the user's authorized_keys there, or name another user or key "
            "(ansible_user, ansible_ssh_private_key_file; ssh in cluster.yml).",
        ),
    ),
    (
        r"Connection refused",
        Refusal(
            "ssh",
            "The machine is there, but nothing listens on its SSH port (connection refused).",
            "Start sshd there, or name the port on which it listens (ansible_port; ssh in "
            "cluster.yml).",
        ),
    ),
    (
        r"timed out|Timeout",
        Refusal(
            "ssh",
            "It does not answer at its address (timed out).",
            "Power it on, check the address, and whether a firewall lets SSH through.",
        ),
    ),
    (
        r"No route to host|Network is unreachable|Host is down",
        Refusal(
            "ssh",
            "There is no way to its address (no route to host).",
            "Power it on, and check the address and this machine's network.",
        ),
    ),
    (
        r"Could not resolve hostname|Name or service not known|failure in name resolution",
        Refusal(
            "ssh",
            "Its name is not known to DNS.",
            "Give its IP address (address in cluster.yml, ansible_host in an inventory), or mend "
            "the name.",
        ),
    ),
    (
        r"kex_exchange_identification|Connection closed by|Connection reset by",
        Refusal(
            "ssh",
            "It ended the connection before anybody had logged in.",
            "Look at `journalctl -u ssh -u sshd` there: it may be full, or refuse this machine.",
        ),
    ),
    (
        r"Missing sudo password|a password is required|Incorrect sudo password|a terminal is req",
        Refusal(
            "sudo",
            "sudo asks for a password there.",
            "Give it with --ask-become-pass, or let the user in without: `USER ALL=(ALL) "
            "NOPASSWD: ALL` in /etc/sudoers.d/.",
        ),
    ),
    (
        r"not in the sudoers file|may not run sudo|sudo: (command )?not found",
        Refusal(
            "sudo",
            "The user may not become root there.",
            "Let the user use sudo (`USER ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d/), or connect "
            "as root.",
        ),
    ),
    (
        r"interpreter .*was not found|python[\d.]*: (command )?not found"
        r"|python[\d.]*['\"]?: No such file|No python interpreters found",
        Refusal(
            "python",
            "There is no Python where Ansible looks for it.",
            "Install python3 there (`apt-get install python3`, `dnf install python3`), or say "
            "where it is: ansible_python_interpreter.",
        ),
    ),
    (
        r"No space left on device|Disk quota exceeded",
        Refusal(
            "disk",
            "Its disk is full: Ansible cannot even write its own files there.",
            "Make room: `df -h`, `df -i` and `du -xh / | sort -h | tail` tell where.",
        ),
    ),
    (
        r"Failed to create temporary directory",
        Refusal(
            "disk",
            "Ansible cannot write its own files there: the disk is full, or the user's home "
            "directory is missing or read-only.",
            "Look with `df -h ~` and `ls -ld ~`, as that user.",
        ),
    ),
)


def explain(said: str) -> Refusal | None:
    """What the words of SSH, sudo, the shell or Ansible mean; None where they are not known."""
    for pattern, refusal in KNOWN:
        if re.search(pattern, said, re.IGNORECASE | re.DOTALL):
            return refusal
    return None


def unexplained(said: str, unreachable: bool) -> Refusal:
    """The last words themselves."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = " ".join(lines[-LAST_LINES:]) or "it said nothing"
    if unreachable:
        return Refusal("ssh", f"It does not answer: {last}", "Try `ssh ADDRESS` by hand.")
    return Refusal(
        PROBE, f"It could not be looked at: {last}", "Mend that, then run the same again."
    )
