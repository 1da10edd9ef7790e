# SPDX-License-Identifier: Apache-2.0
"""destroy.yml with the real Ansible, and a podman that only answers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from real_ansible import Ansible

# Own machines would be reset next, which needs real ones: a limit leaves them out.
INVENTORY = """\
all:
  hosts: {{localhost: {{}}}}
  vars:
    kubewright_cluster_name: demo
    kubewright_version: 1.37.2
    kubewright_state_dir: {state}
    ansible_connection: local
    ansible_python_interpreter: {python}
  children:
    control_plane: {{hosts: {{a: {{ansible_host: 192.0.2.1}}}}}}
"""
PODMAN = """\
#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    print(*sys.argv[1:], file=log)
labels = {{"kubewright.cluster": "demo", "kubewright.cluster_id": {owner!r}}}
known = {{"volume ls": [{{"Name": "left", "Mountpoint": "/nowhere", "Labels": labels}}]}}
if "--format=json" in sys.argv:
    print(json.dumps(known.get(" ".join(sys.argv[1:3]), [])))
"""
OURS, THEIRS = "5b0e6f0a-0000-4000-8000-000000000001", "5b0e6f0a-0000-4000-8000-000000000002"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A cluster of own machines alone, which once had some of the provider local."""
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "inventory.yml").write_text(INVENTORY.format(state=state, python=sys.executable))
    record = {"schema": 1, "file": "", "ids": [OURS], "providers": ["local", "static"]}
    (state / "record.json").write_text(json.dumps(record))
    (state / "kubeconfig").touch()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("runc", "#!/bin/sh\necho null\n"), ("podman", "")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return tmp_path


def destroyed(ansible: Ansible, world: Path, owner: str, *words: str) -> tuple[int, str, list[str]]:
    """Status, output, and what podman was told to remove."""
    log = world / "podman.log"
    log.write_text("")
    podman = world / "bin/podman"
    podman.write_text(PODMAN.format(python=sys.executable, log=str(log), owner=owner))
    done = ansible.play(
        *("-i", "inventory.yml", "kubewright.cluster.destroy", "--limit", "localhost", *words),
        PATH=f"{world / 'bin'}:{os.environ['PATH']}",
    )
    removed = [line for line in log.read_text().splitlines() if " rm " in f" {line} "]
    return done.returncode, done.stdout + done.stderr, removed


def test_unconfirmed_nothing_is_asked_or_removed(ansible: Ansible, world: Path) -> None:
    for words in ((), ("-e", "kubewright_confirm_destroy=other")):
        status, said, removed = destroyed(ansible, world, OURS, *words)
        assert (status, removed) == (2, [])
        assert "-e kubewright_confirm_destroy=demo" in said
        assert (world / "podman.log").read_text() == ""


def test_a_provider_of_no_pool_is_asked_too(ansible: Ansible, world: Path) -> None:
    _, said, removed = destroyed(ansible, world, OURS, "-e", "kubewright_confirm_destroy=demo")
    assert removed == ["volume rm --force left"], said


def test_of_a_cluster_with_the_same_name_nothing_is_removed(ansible: Ansible, world: Path) -> None:
    status, said, removed = destroyed(
        ansible, world, THEIRS, "-e", "kubewright_confirm_destroy=demo"
    )
    assert (status, removed) == (2, [])
    assert f"also called demo (id {THEIRS}) has these objects here: volume left" in said
    assert (world / "state/record.json").exists()


def test_by_its_id_a_lost_cluster_goes_and_the_known_one_stays(
    ansible: Ansible, world: Path
) -> None:
    status, said, removed = destroyed(
        ansible, world, THEIRS, "-e", f"kubewright_confirm_destroy={THEIRS}"
    )
    assert (status, removed) == (0, ["volume rm --force left"]), said
    assert {path.name for path in (world / "state").iterdir()} >= {"record.json", "kubeconfig"}
