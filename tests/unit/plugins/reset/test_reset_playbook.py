# SPDX-License-Identifier: Apache-2.0
"""reset.yml with the real Ansible: on hosts that are no nodes, so that nothing here is touched."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from real_ansible import INVENTORY, PLAYBOOK, Ansible

# The first one by name is lost: nothing listens on that port.
LOST = """\
all:
  vars:
    kubewright_cluster_name: demo
    kubewright_version: 1.37.2
    kubewright_state_dir: {state}
    ansible_python_interpreter: {python}
  children:
    control_plane: {{hosts: {{a: {{ansible_host: 127.0.0.2, ansible_port: 1}}}}}}
    pool_web: {{hosts: {{b: {{ansible_host: 192.0.2.2, ansible_connection: local}}}}}}
"""
SCRIPT = """
mount -t tmpfs tmpfs /run && mkdir -p /var/lib/kubewright || exit 9
mount -t tmpfs tmpfs /var/lib/kubewright || exit 9
echo READY
{playbook} -i inventory.yml kubewright.cluster.reset --limit b
ls {state}
{playbook} -i lost.yml kubewright.cluster.destroy -e kubewright_confirm_destroy=demo
ls {state}
{playbook} -i inventory.yml kubewright.cluster.reset --limit b -e kubewright_confirm_reset=demo
ls /run /var/lib/kubewright
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs a mount namespace")
def test_confirmed_by_name_the_lost_are_left_out_and_the_last_take_the_state_along(
    tmp_path: Path, ansible: Ansible
) -> None:
    state = tmp_path / "state"
    (state / "identity").mkdir(parents=True)
    (state / "identity/cluster.json").write_text('{"cluster_id": "id"}')
    (state / "kubeconfig").touch()
    for name, text in (("inventory", INVENTORY), ("lost", LOST)):
        (tmp_path / f"{name}.yml").write_text(text.format(state=state, python=sys.executable))
    done = ansible.play_apart(SCRIPT.format(state=state, playbook=PLAYBOOK))
    if "READY" not in done.stdout:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    refused, destroyed, confirmed, ended = done.stdout.split("PLAY RECAP")
    assert "-e kubewright_confirm_reset=demo" in refused + done.stderr
    assert "Probe the node" not in refused
    assert "identity\nkubeconfig\n" in destroyed, "nothing was changed"
    assert "a: not reset, see above, so the cluster's state is kept" in destroyed
    assert "undefined" not in destroyed
    assert "identity\nknown_hosts\nkubeconfig\nlock\nmachines.json\n" in confirmed
    recap = {line.split()[0]: line for line in confirmed.splitlines() if " ok=" in line}
    assert (
        "failed=0" in recap["b"] and "changed=0" in recap["b"] and "failed=1" in recap["localhost"]
    )
    assert "failed=0" in ended, done.stdout + done.stderr
    # A run that is cut here must reach the machines again.
    gone = re.findall(r"\[b -> localhost\] => \(item=(\S+)\)", confirmed)
    listed = ["machines.json", "known_hosts", "roster.json", "record.json"]
    assert gone == ["kubeconfig", "identity", "ssh", *listed]
    assert sorted(entry.name for entry in state.iterdir()) == ["lock", "schema.json", "store.json"]
    # No record, no lock: the host is as it was.
    assert "kubewright" not in done.stdout.rsplit("/run:", 1)[1].split("/var/lib/kubewright:")[0]
