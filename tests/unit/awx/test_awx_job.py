# SPDX-License-Identifier: Apache-2.0
"""A job with AWX's private data directory: the identity comes in as a credential's file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import awx_job
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    identity,
    identity_making,
)

from kubewright.locations import ClusterPaths
from kubewright.operate.identity import read

CHECKOUT = Path(__file__).resolve().parents[3]
#: Looks like a template.
TEXT = "{{ 1 + 1 }}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository as awx/project is, with a job that needs no machine."""
    path = tmp_path / "repository"
    path.mkdir()
    cluster = yaml.safe_load((CHECKOUT / "awx/project/cluster.yml").read_text())
    cluster["control_plane"]["kubelet_args"] = {"clusterDomain": TEXT}
    (path / "cluster.yml").write_text(yaml.safe_dump(cluster))
    # Those by which its reset.yml begins.
    first = yaml.safe_load((CHECKOUT / "awx/project/reset.yml").read_text())[:2]
    (path / "begin.yml").write_text(yaml.safe_dump(first))
    return path


@pytest.mark.timeout(120)
def test_a_job_without_state_has_what_its_credential_and_inventory_say(
    tmp_path: Path, project: Path, collections_path: Path
) -> None:
    here = ClusterPaths(tmp_path / "here" / "demo")
    version = {"version": "1.36.1"}
    made = identity_making.ensure(
        here.identity, "demo", "alpha", begun=True, fixed=version, check_mode=False
    )
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
    }
    # The environment of the source, not of the job.
    places = {"KUBEWRIGHT_STATE_DIR": "container", "KUBEWRIGHT_CACHE_DIR": "store"}
    source = {name: str(tmp_path / place) for name, place in places.items()}
    database = awx_job.imported(project / "cluster.yml", {**environment, **source})
    alpha = database["_meta"]["hostvars"]["alpha"]
    # With the mark of a text that is no template, for the jobs that read it from there.
    assert alpha["ansible_host"] == {"__ansible_unsafe": "192.0.2.11"}
    kubelet = alpha["container_runtime_kubelet_configuration"]
    assert kubelet["clusterDomain"] == {"__ansible_unsafe": TEXT}
    assert "ansible_ssh_private_key_file" not in alpha and "IdentitiesOnly" not in str(alpha), (
        "or the agent's key would not be tried"
    )
    job = awx_job.Job(
        project=project,
        playbook="begin.yml",
        inventory=database,
        files={"kubewright_identity_bundle": json.dumps(read(here))},
        environment=environment,
    )
    ended = awx_job.run(job, tmp_path / "job")
    # It also refuses a host whose key is not checked, and ansible-runner switches that off. Another
    # version than the cluster's is no reason not to reset it.
    assert ended.status == 0, ended.output
    assert "censored" in ended.result("Create or unpack the cluster's CAs")
    state = tmp_path / "container" / "demo"
    unpacked, pki = identity.read(state / "identity")
    assert (unpacked.cluster_id, pki) == (made.identity.cluster_id, made.pki)
    assert (unpacked.initial_node, unpacked.begun) == ("alpha", True)
    assert stat.S_IMODE((state / "identity").stat().st_mode) == 0o700
    (key,) = alpha["kubewright_host_keys"]
    assert key["__ansible_unsafe"] in (state / "known_hosts").read_text()
    kept = "".join(
        path.read_text() for path in (tmp_path / "job/artifacts").rglob("*") if path.is_file()
    )
    keys = [content for name, content in pki.items() if name.endswith(".key")]
    for line in awx_job.secrets_of(keys):
        assert line not in kept + ended.output


def test_the_directory_is_closed_and_has_awx_files(tmp_path: Path, project: Path) -> None:
    job = awx_job.Job(
        project=project,
        playbook="begin.yml",
        inventory={"all": {}},
        private_key="-----BEGIN OPENSSH PRIVATE KEY-----\nkey\n-----END OPENSSH PRIVATE KEY-----",
        extra_vars={"kubewright_target": "alpha"},
        files={"one": "1"},
        check=True,
        limit="alpha",
    )
    directory = awx_job.build(job, tmp_path / "job")
    env = directory / "env"
    injected = f"@{env}/tmpvars"
    words = ["--check", "-u", "root", "-l", "alpha", "-e", injected]
    assert (env / "cmdline").read_text().split() == words
    assert yaml.safe_load((env / "tmpvars").read_text()) == {"one": str(env / "tmp0")}
    assert (env / "ssh_key").read_text().endswith("-----\n"), "ssh-add refuses a key without it"
    variables = yaml.safe_load((env / "extravars").read_text())
    assert variables == {"kubewright_target": "alpha", "awx_job_id": 42, "tower_job_id": 42}
    assert (directory / "inventory/hosts").stat().st_mode & 0o100
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    # AWX leaves it to ansible-runner, which switches it off: cluster.yml's inventory does not.
    assert not any("HOST_KEY" in name for name in yaml.safe_load((env / "envvars").read_text()))


@pytest.mark.parametrize(("more", "compared"), [({}, True), ({"kubewright_refuse": False}, False)])
def test_a_reset_compares_nothing_that_the_cluster_keeps(
    more: dict[str, bool], compared: bool
) -> None:
    (play,) = yaml.safe_load((CHECKOUT / "playbooks/identity.yml").read_text())
    (task,) = [task for task in play["tasks"] if task.get("register") == "kubewright_identity"]
    kept = {"version": "1.37.2", "pod_cidr": "10.244.0.0/16", "service_cidr": "10.96.0.0/16"}
    assert set(task["vars"]["kept"]) == set(kept)
    templar = Templar(DataLoader(), variables={"kept": kept, **more})
    fixed = templar.template(
        trust_as_template(task["kubewright.cluster.cluster_identity"]["fixed"])
    )
    assert fixed == (kept if compared else {})


@pytest.mark.parametrize(("node", "good"), [("alpha", True), ("bravo", False), ("charlie", False)])
def test_only_a_control_plane_begins_a_cluster(node: str, good: bool) -> None:
    (play,) = yaml.safe_load((CHECKOUT / "playbooks/identity.yml").read_text())
    (task,) = [task for task in play["tasks"] if "ansible.builtin.assert" in task]
    groups = {"control_plane": ["delta", "alpha"], "pool_web": ["bravo"]}
    templar = Templar(DataLoader(), variables={"kubewright_initial_node": node, "groups": groups})
    words = task["ansible.builtin.assert"]
    that = templar.template(trust_as_template("{{ " + words["that"] + " }}"))
    assert that is good
    said = templar.template(trust_as_template(words["fail_msg"]))
    assert f"{node} is not a control plane" in said and "Use one of alpha, delta." in said


def test_probe_takes_the_bundle() -> None:
    (play, *_) = yaml.safe_load((CHECKOUT / "playbooks/probe.yml").read_text())
    tasks = [t for t in play["tasks"] if "kubewright.cluster.cluster_identity" in t]
    assert tasks[0]["no_log"] is True
    bundle = tasks[0]["kubewright.cluster.cluster_identity"]["bundle"]
    assert bundle == "{{ kubewright_identity_bundle | default(omit) }}"
