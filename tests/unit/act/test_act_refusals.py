# SPDX-License-Identifier: Apache-2.0
"""What code of ours refuses in a real run is told, also where Ansible hides or wraps it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kubewright.act import Session
from kubewright.act import failures as records
from kubewright.locations import ClusterPaths

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (Path(sys.prefix) / "bin" / "ansible-playbook").exists(), reason="needs ansible-core"
    ),
]


def test_what_an_action_of_ours_refuses_is_told_though_its_result_is_hidden(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str], tmp_path: Path
) -> None:
    identity = tmp_path / "identity"
    (identity / "pki").mkdir(parents=True)
    (identity / "pki" / "ca.crt").write_text("battery-staple")
    name = playbook(f"""\
- hosts: localhost
  gather_facts: false
  tasks:
    - kubewright.cluster.cluster_identity: {{path: {identity}, cluster_name: demo}}
      no_log: true
""")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    (failure,) = result.failures
    assert failure.message.startswith(f"{identity} is not a complete cluster identity")
    assert "Restore it from a backup" in failure.message
    assert "Origin" not in failure.message
    assert "battery-staple" not in failure.message


def test_what_a_node_lacks_is_told_though_its_result_is_hidden(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str], tmp_path: Path
) -> None:
    """A disk that is full, say; and nothing of what was to be written."""
    path = tmp_path / ("name" * 100)
    name = playbook(f"""\
- hosts: localhost
  gather_facts: false
  tasks:
    - kubewright.cluster.node_parts:
        documents: {{a: {{files: [{{path: {path}, secret: true}}]}}}}
        secrets: {{? {path} : battery-staple}}
      check_mode: true
      no_log: true
""")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    (failure,) = result.failures
    assert failure.message.startswith(f"a: {path}: File name too long. ")
    assert "then run it again" in failure.message
    assert "battery-staple" not in failure.message
    assert "battery-staple" not in result.log.read_text()


def test_what_filters_refuse_in_a_loop_is_told_in_their_own_words(
    paths: ClusterPaths, inventory: Path, playbook: Callable[[str], str]
) -> None:
    """And kept: the record has what the command told."""
    name = playbook("""\
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Lay it
      ansible.builtin.debug: {msg: "{{ item | kubewright.cluster.one_word('option') }}"}
      loop: [fine, "two words", "three more words"]
""")
    with Session(paths, "apply") as session:
        result = session.run(name, inventory=inventory)
    (failure,) = result.failures
    told = (
        "is not allowed in a configuration file. Write one word of letters, digits and _ . : , @ /"
    )
    assert failure.message.startswith(f"option: 'two words' {told}")
    assert f"; option: 'three more words' {told}" in failure.message
    assert "The filter plugin" not in failure.message
    assert records.read(result.log.with_name("failures.jsonl")) == [failure]
