# SPDX-License-Identifier: Apache-2.0
"""The playbooks node_image_*, with the real Ansible, a real volume and a real server."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import trial
from image_server import Signer, serving
from images import make
from real_ansible import PLAYBOOK, Ansible

CHECKOUT = Path(__file__).resolve().parents[4]
OPERATIONS = ("install", "activate", "rollback", "gc")
PLAYS = "".join(
    f"- ansible.builtin.import_playbook: kubewright.cluster.node_image_{name}\n"
    for name in ("install", "list", "gc", "activate")
)
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run && mkdir -p /var/lib/kubewright
mount -t tmpfs tmpfs /var/lib/kubewright && mkdir /var/lib/kubewright/system
truncate -s 200M /var/lib/kubewright/volume.ext4
mkfs.ext4 -q /var/lib/kubewright/volume.ext4
mount -o loop /var/lib/kubewright/volume.ext4 /var/lib/kubewright/system
trap 'umount /var/lib/kubewright/system' EXIT
echo READY
{playbook} -i inventory.json plays.yml --limit b || echo FAILED
ls /var/lib/kubewright/system /var/lib/kubewright/system/images
cat /var/lib/kubewright/epoch
"""


def inventory(directory: Path, **web: Any) -> dict[str, Any]:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    return {
        "all": {
            "vars": {
                "kubewright_cluster_name": "demo",
                "kubewright_version": "1.37.2",
                "kubewright_state_dir": str(directory / "state"),
                **local,
            },
            "children": {
                "control_plane": {"hosts": {"a": {"ansible_host": "192.0.2.1"}}},
                "pool_web": {"hosts": {"b": {"ansible_host": "192.0.2.2"}}, "vars": web},
            },
        }
    }


@pytest.mark.skipif(os.getuid() != 0, reason="needs a mount namespace")
def test_fetched_listed_collected_and_then_not_there(tmp_path: Path, ansible: Ansible) -> None:
    """Plain Ansible: the inventory names digest and server, and nothing is on the controller."""
    image, signer = make(tmp_path, "worker"), Signer.make(tmp_path, "builder")
    with serving(tmp_path) as served:
        served.files[f"{image.digest}.squashfs"] = image.content
        served.files[f"{image.digest}.squashfs.sig"] = signer.sign(image.content)
        web = {
            "system_volume_image_digest": image.digest,
            "system_volume_image_url": served.url,
            "system_volume_image_signers": [signer.public],
        }
        (tmp_path / "inventory.json").write_text(json.dumps(inventory(tmp_path, **web)))
        (tmp_path / "plays.yml").write_text(PLAYS)
        done = ansible.play_apart(SCRIPT.format(playbook=PLAYBOOK))
    shown = done.stdout + done.stderr
    if "READY" not in done.stdout:
        pytest.skip(f"no mount namespace or loop device here: {done.stderr}")
    assert "FAILED" in done.stdout, shown
    assert served.images() == [(0, len(image.content))], shown
    assert f'"digest": "{image.digest}"' in done.stdout and '"staged": true' in done.stdout, shown
    # Staged images are what a collection takes; then there is none to activate.
    said = rf"{image.digest} is not installed on this node, which has\s+none\. Install it first"
    assert re.search(said, shown), shown
    recap = next(line for line in done.stdout.splitlines() if re.match(r"b +: ok=", line))
    assert "changed=2" in recap and "failed=1" in recap, shown
    assert "/var/lib/kubewright/system/images:" in done.stdout, shown
    left = done.stdout.rsplit("/var/lib/kubewright/system/images:", 1)[1]
    epoch, run = left.split()
    assert epoch == "1" and run in (tmp_path / "state/store.json").read_text(), "no image"
    assert not (tmp_path / "state/identity").exists()


@pytest.mark.parametrize(
    "wanted", [{"wroker": {"digest": "a" * 64}}, {"worker": {"path": "x"}}, {"worker": "a" * 64}]
)
def test_a_wanted_image_that_would_be_nobodys_is_refused(
    tmp_path: Path, ansible: Ansible, wanted: dict[str, Any]
) -> None:
    (tmp_path / "inventory.json").write_text(json.dumps(inventory(tmp_path)))
    words = ["kubewright.cluster.node_image_install", "-i", "inventory.json", "--limit", "b"]
    done = ansible.play(*words, "-e", json.dumps({"kubewright_wanted_images": wanted}))
    shown = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "Probe the node" not in shown, shown
    assert "needs a digest for each role (control_plane and worker)" in shown


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_changes_nodes_begins_alike_and_has_the_epoch(name: str) -> None:
    first, *others = yaml.safe_load((CHECKOUT / f"playbooks/node_image_{name}.yml").read_text())
    assert first["tasks"][0]["ansible.builtin.import_tasks"] == "tasks/node_image.yml"
    for play in others:
        assert play["hosts"] == first["hosts"] and play["vars_files"] == first["vars_files"]
        claim = play["module_defaults"]["group/kubewright.cluster.node"]
        assert "kubewright_run.epoch" in claim["epoch"] and "kubewright_run.run" in claim["run"]


def test_one_node_after_another_runs_from_a_new_image() -> None:
    plays = yaml.safe_load((CHECKOUT / "playbooks/node_image_activate.yml").read_text())
    assert (plays[1]["serial"], plays[1]["max_fail_percentage"]) == (1, 0)
    *_, runtime, tried = plays[1]["tasks"]
    assert runtime["ansible.builtin.include_role"]["name"] == "kubewright.cluster.container_runtime"
    assert tried["ansible.builtin.include_tasks"] == "tasks/image_tried.yml"
    assert tried["vars"]["digest"] == "{{ kubewright_wanted_digest }}"


def test_a_nodes_verdict_is_awaited_longer_than_it_may_take() -> None:
    wait, look, refuse = yaml.safe_load((CHECKOUT / "playbooks/tasks/image_tried.yml").read_text())
    order = {"path": str(trial.STATE / trial.ORDER), "state": "absent"}
    assert order.items() <= wait["ansible.builtin.wait_for"].items()
    assert wait["ansible.builtin.wait_for"]["timeout"] > trial.LIMIT + trial.SWITCH + 2 * 60
    assert look["register"] in refuse["vars"]["active"]
    assert refuse["ansible.builtin.assert"]["that"] == "digest == active"
