# SPDX-License-Identifier: Apache-2.0
"""identity export: one document with all of it, never by accident on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from kubewright.agreed import identity as identities
from kubewright.cli.exits import ExitCode

FILES = identities.file_names()

PLAY = """\
- name: Set up the cluster's identity
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Make the directory
      ansible.builtin.file: {path: "{{ kubewright_state_dir }}/identity", state: directory}
"""


@pytest.fixture
def identity(world: Any) -> Any:
    """An identity in the state directory."""
    files = {name: f"this is {name}\n" for name in FILES}
    for name, text in files.items():
        path = world.paths.pki / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (world.paths.pki / ".ca.key.tmp").mkdir()
    cluster = {
        "schema": 1,
        "cluster_id": "an-id",
        "cluster_name": "demo",
        "created_at": "2030-01-31T12:00:00+00:00",
        "initial_node": "a",
        "begun": False,
        "fixed": {},
    }
    (world.paths.identity / "cluster.json").write_text(json.dumps(cluster))
    return {"kubewright_identity": 1, "cluster": cluster, "pki": files}


def test_export(identity: Any, command: Callable[..., Any]) -> None:
    ended = command("identity", "export")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == identity
    refused = command("identity", "export", "-o", "yaml")
    assert refused.code == 2 and "JSON only" in refused.err
    for form in ("json", "text"):
        assert json.loads(command("identity", "export", "-o", form).out) == identity


def test_that_it_has_begun_is_recorded_here_too(
    world: Any, identity: Any, command: Callable[..., Any]
) -> None:
    document = world.paths.identity / "cluster.json"
    begun = json.loads(command("identity", "export", "--initialized").out)
    whole = {**identity["cluster"], "begun": True}
    assert begun == {**identity, "cluster": whole}
    assert json.loads(document.read_text()) == whole
    assert document.stat().st_mode & 0o777 == 0o600
    written = document.stat().st_ino
    assert json.loads(command("identity", "export", "--initialized").out) == begun
    assert document.stat().st_ino == written, "once"
    assert json.loads(command("identity", "export").out) == begun


def test_one_that_leaves_open_who_begins(
    world: Any, identity: Any, command: Callable[..., Any]
) -> None:
    document = world.paths.identity / "cluster.json"
    document.write_text(json.dumps({**identity["cluster"], "initial_node": ""}))
    ended = command("identity", "export")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert "does not say which node initializes demo" in ended.err
    assert "kubewright identity make -f cluster.yml, then export it again" in ended.err
    # It has begun: nobody does it again.
    assert command("identity", "export", "--initialized").code == 0


def test_a_terminal_is_refused_unless_forced(
    identity: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    ended = command("identity", "export")
    assert ended.code == ExitCode.REFUSED
    assert ended.out == ""
    assert "(umask 077; kubewright identity export -f cluster.yml > demo.identity)" in ended.err
    assert json.loads(command("identity", "export", "--force").out) == identity


def test_the_hint_can_be_pasted(
    world: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    other = world.file.with_name("two words.yml")
    world.file.rename(other)
    ended = command("identity", "export", "--initialized", "-f", other.name)
    hint = "kubewright identity export -f 'two words.yml' --initialized > demo.identity"
    assert f"(umask 077; {hint})" in ended.err


def test_none_and_a_damaged_one(world: Any, command: Callable[..., Any]) -> None:
    ended = command("identity", "export")
    assert ended.code == ExitCode.FAILED
    assert "there is no identity in" in ended.err and "identity make" in ended.err
    world.paths.pki.mkdir(parents=True)
    ended = command("identity", "export")
    assert "cluster.json" in ended.err and "Traceback" not in ended.err
    (world.paths.identity / "cluster.json").write_text("{")
    ended = command("identity", "export")
    assert "is not a complete cluster identity" in ended.err
    assert "Restore it from a backup" in ended.err


@pytest.mark.parametrize("name", [*(f"pki/{name}" for name in FILES), "cluster.json"])
def test_one_that_is_not_whole(
    world: Any, identity: Any, command: Callable[..., Any], name: str
) -> None:
    path = world.paths.identity / name
    path.unlink()
    ended = command("identity", "export")
    assert (ended.code, ended.out) == (ExitCode.FAILED, "")
    assert f"Error: {world.paths.identity} is not a complete cluster identity" in ended.err
    assert f"No such file or directory: '{path}'" in ended.err


def test_one_whose_document_is_none(world: Any, identity: Any, command: Callable[..., Any]) -> None:
    (world.paths.identity / "cluster.json").write_text("[]")
    ended = command("identity", "export", "--initialized")
    assert (ended.code, ended.out) == (ExitCode.FAILED, "")
    assert "is not a complete cluster identity" in ended.err


def test_make_runs_its_playbook(world: Any, command: Callable[..., Any]) -> None:
    world.playbook("identity", PLAY)
    ended = command("identity", "make", "-o", "yaml")
    assert ended.code == 0, ended.err
    assert yaml.safe_load(ended.out)["identity"] == str(world.paths.identity)
    assert world.paths.identity.is_dir()
