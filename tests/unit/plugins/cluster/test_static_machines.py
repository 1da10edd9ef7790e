# SPDX-License-Identifier: Apache-2.0
"""Machines of one's own: entries of machines.json, and keys that real ssh-keygen finds."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import machines
from ansible_collections.kubewright.cluster.plugins.modules import static_machines

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


def key(letter: str) -> str:
    kind = b"ssh-ed25519"
    data = len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + letter.encode() * 32
    return f"ssh-ed25519 {base64.b64encode(data).decode()}"


def listed(known_hosts: Path, *nodes: dict[str, Any]) -> list[dict[str, Any]]:
    params = {
        "cluster": "demo",
        "nodes": [{"port": 22, "host_keys": [], **node} for node in nodes],
        "known_hosts": [str(known_hosts), str(known_hosts.with_name("missing"))],
    }
    machines: list[dict[str, Any]] = static_machines.run(params, False)["machines"]
    return machines


ALPHA = {"name": "alpha", "address": "192.0.2.11"}
BETA = {"name": "beta", "address": "192.0.2.12", "port": 2222}


def test_an_entry_is_one_of_machines_json(tmp_path: Path) -> None:
    entries = listed(tmp_path / "none", {**ALPHA, "host_keys": [key("a")]})
    assert entries == [
        {
            "id": "static://demo/alpha",
            "name": "alpha",
            "address": "192.0.2.11",
            "host_keys": [key("a")],
            "provider": "static",
            "region": "static",
            "zone": "static",
            "node_type": "static",
            "power": "on",
        }
    ]
    assert machines.validated(entries) == entries


@pytest.mark.parametrize("hashed", [False, True])
def test_keys_that_the_user_trusts(tmp_path: Path, hashed: bool) -> None:
    known = tmp_path / "known_hosts"
    lines = [
        f"192.0.2.11 {key('a')} a comment",
        f"other,192.0.2.11 {key('b')}",
        f"192.0.2.12 {key('c')}",
        f"[192.0.2.12]:2222 {key('d')}",
        f"@revoked 192.0.2.11 {key('b')}",
        f"@cert-authority 192.0.2.* {key('e')}",
        f"@cert-authority 192.0.2.11 {key('f')}",
        f"@revoked 192.0.2.11 {key('f')}",
    ]
    known.write_text("\n".join(lines) + "\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", str(known)], check=True, capture_output=True)
        assert f"192.0.2.11 {key('a')}" not in known.read_text()
    alpha, beta = listed(known, ALPHA, BETA)
    # A pattern is not hashed, ssh-keygen(1).
    assert alpha["host_keys"] == [key("a"), f"@cert-authority 192.0.2.11 {key('e')}"]
    assert beta["host_keys"] == [key("d")]
    assert machines.validated([alpha, beta]) == [alpha, beta]


def test_a_machine_without_a_key_is_listed_all_the_same(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"192.0.2.11 {key('c')}\n")
    entries = listed(known, BETA, ALPHA)
    assert [entry["host_keys"] for entry in entries] == [[], [key("c")]]
    assert machines.known_hosts(entries) == f"alpha,192.0.2.11 {key('c')}\n"


def test_known_hosts_has_a_signed_key_under_the_name_in_its_certificate() -> None:
    keys = [key("a"), f"@cert-authority alpha.example.com {key('e')}"]
    entries = listed(Path("/none"), {**ALPHA, "host_keys": keys})
    assert machines.known_hosts(entries) == (
        f"alpha,192.0.2.11,alpha.example.com {key('a')}\n"
        f"@cert-authority alpha.example.com {key('e')}\n"
    )
    for name in ("*.example.com", "a,b", "", "x y"):
        wrong = [{**entries[0], "host_keys": [f"@cert-authority {name} {key('e')}"]}]
        with pytest.raises(KubewrightError, match="is not a valid SSH key"):
            machines.validated(wrong)


def test_where_ssh_checks_by_itself_nothing_is_looked_up(tmp_path: Path) -> None:
    (entry,) = listed(tmp_path / "none", {**ALPHA, "host_keys": None})
    assert entry["host_keys"] == []


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, fake_runner: Any) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    runner = fake_runner(lambda argv: (255, "", "known_hosts: Permission denied"))
    params = {
        "cluster": "demo",
        "nodes": [{"port": 22, "host_keys": [], **ALPHA}],
        "known_hosts": [str(known)],
    }
    with pytest.raises(KubewrightError, match="Permission denied"):
        static_machines.run(params, False, runner)
    assert runner.calls == [["ssh-keygen", "-F", "192.0.2.11", "-f", str(known)]]
