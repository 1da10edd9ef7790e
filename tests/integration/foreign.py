# SPDX-License-Identifier: Apache-2.0
"""What real servers have, and what somebody else has set up there: one thing or two each.

All of them let the user ``debian`` in, who has sudo without a password, as cloud images do.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hosts import GATEWAY, SUBNET, Host, Key

USER = "debian"
HOME = f"/home/{USER}"
#: The name that a signed host key is for.
DOMAIN = "example.com"
#: Answers nobody: what goes through it fails at once.
PROXY = "http://127.0.0.1:9"

#: What cloud-init writes at each boot where it manages the file (manage_etc_hosts).
_CLOUD_HOSTS = """\
# Your system has configured 'manage_etc_hosts' as True.
# As a result, if you wish for changes to this file to persist
# then you will need to either
# a.) make changes to the master file in /etc/cloud/templates/hosts.debian.tmpl
# b.) change or remove the value of 'manage_etc_hosts' in
#     /etc/cloud/cloud.cfg or cloud-config from user-data
#
127.0.1.1 {name} {name}
127.0.0.1 localhost
"""
_CLOUD_UNIT = """\
[Unit]
Description=What cloud-init does with /etc/hosts
DefaultDependencies=no
After=local-fs.target
Before=network-online.target ssh.service

[Service]
Type=oneshot
ExecStart=/bin/cp /etc/cloud/templates/hosts.debian.tmpl /etc/hosts

[Install]
WantedBy=multi-user.target
"""
#: What a worker needs open, and SSH.
_FIREWALL = f"""\
table inet firewall {{
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lo" accept
    tcp dport 22 accept
    iifname {{ "cni0", "flannel.1" }} accept
    ip saddr {SUBNET} tcp dport 10250 accept
    ip saddr {SUBNET} udp dport 8472 accept
  }}
}}
"""


def furnish(host: Host, key: Key, directory: Path) -> Host:
    """Set a host up as its owner has it; return what has changed of it."""
    _let_in(host, key)
    for change in FOREIGN[host.name]:
        host = change(host, directory)
    return host


def _let_in(host: Host, key: Key) -> None:
    host.run("useradd", "--create-home", "--shell", "/bin/bash", USER)
    host.write(f"{HOME}/.ssh/authorized_keys", key.public)
    host.run("chown", "-R", f"{USER}:", f"{HOME}/.ssh")
    host.write("/etc/sudoers.d/90-cloud-init-users", f"{USER} ALL=(ALL) NOPASSWD:ALL\n")
    host.run("rm", "/root/.ssh/authorized_keys")


def _local_resolver(host: Host, directory: Path) -> Host:
    """systemd-resolved, whose stub on loopback is what /etc/resolv.conf names."""
    host.write("/etc/systemd/resolved.conf.d/dns.conf", f"[Resolve]\nDNS={GATEWAY}\nLLMNR=no\n")
    host.run("systemctl", "enable", "--now", "systemd-resolved.service")
    host.run("ln", "-sf", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
    return host


def _proxies(host: Host, directory: Path) -> Host:
    """A proxy for the machine's users, in capitals and not."""
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    host.write("/etc/environment", "".join(f'{name}="{PROXY}"\n' for name in names))
    return host


def _printing_shell(host: Host, directory: Path) -> Host:
    """A shell that greets whoever comes, also programs."""
    for home in ("/root", HOME):
        host.write(f"{home}/.bashrc", f"echo 'Welcome to {{{host.name}}} [production]'\n")
    return host


def _managed_hosts_file(host: Host, directory: Path) -> Host:
    """cloud-init with manage_etc_hosts."""
    host.write("/etc/cloud/cloud.cfg.d/99-hosts.cfg", "manage_etc_hosts: true\n")
    text = _CLOUD_HOSTS.format(name=host.name)
    host.write("/etc/cloud/templates/hosts.debian.tmpl", text)
    host.write("/etc/hosts", text)
    host.write("/etc/systemd/system/cloud-init-hosts.service", _CLOUD_UNIT)
    host.run("systemctl", "enable", "cloud-init-hosts.service")
    return host


def _signed_host_key(host: Host, directory: Path) -> Host:
    """A certificate for its name and address."""
    name = f"{host.name}.{DOMAIN}"
    authority, public = directory / "host_ca", directory / f"{host.name}.pub"
    public.write_text(host.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub"))
    make = ["-q", "-t", "ed25519", "-N", "", "-C", "host authority", "-f", str(authority)]
    sign = ["-q", "-h", "-s", str(authority), "-I", name, "-n", f"{name},{host.address}"]
    for words in (make, [*sign, str(public)]):
        subprocess.run(["ssh-keygen", *words], check=True, timeout=30)
    certificate = "/etc/ssh/ssh_host_ed25519_key-cert.pub"
    host.write(certificate, (directory / f"{host.name}-cert.pub").read_text())
    host.write("/etc/ssh/sshd_config.d/signed.conf", f"HostCertificate {certificate}\n")
    host.run("systemctl", "restart", "ssh.service")
    kind, text, *_ = authority.with_suffix(".pub").read_text().split()
    return replace(host, key=f"@cert-authority {name} {kind} {text}")


def _terminal_for_sudo(host: Host, directory: Path) -> Host:
    """A sudo that wants a terminal, but from this user."""
    rules = f"Defaults requiretty\nDefaults:{USER} !requiretty\n"
    host.write("/etc/sudoers.d/10-hardened", rules)
    return host


def _firewall(host: Host, directory: Path) -> Host:
    """A firewall that drops what comes in, but for what the docs want open."""
    host = replace(host, firewall=_FIREWALL)
    host.restart_firewall()
    return host


#: By host. What is tried on a running cluster is not here: alpha's firewall is restarted.
FOREIGN: dict[str, tuple[Callable[[Host, Path], Host], ...]] = {
    "alpha": (_local_resolver,),
    "beta": (_proxies, _printing_shell),
    "gamma": (_managed_hosts_file, _signed_host_key),
    "delta": (_terminal_for_sudo,),
    "epsilon": (_firewall,),
}
#: Has a second network card, with the default route.
TWO_CARDS = ("delta",)
