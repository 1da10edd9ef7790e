# SPDX-License-Identifier: Apache-2.0
"""What all modules have in common, and Ansible itself running some of them."""

from __future__ import annotations

import ast
import errno
import importlib
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client
from images import make
from real_ansible import PLAYBOOK, Ansible

RunModule = Callable[..., dict[str, Any]]
CHECKOUT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (CHECKOUT / "plugins" / "modules").glob("[!_]*.py"))
LOCAL = {"cluster_identity", "kubeconfig"}  # run on the controller


def documented(name: str) -> dict[str, Any]:
    module = importlib.import_module(
        f"ansible_collections.kubewright.cluster.plugins.modules.{name}"
    )
    document: dict[str, Any] = yaml.safe_load(module.DOCUMENTATION)
    for fragment in document.get("extends_documentation_fragment", []):
        fragments = f"ansible_collections.{'.'.join(fragment.split('.')[:2])}.plugins.doc_fragments"
        more = importlib.import_module(f"{fragments}.{fragment.split('.')[2]}").ModuleDocFragment
        document["options"].update(yaml.safe_load(more.DOCUMENTATION)["options"])
    return document


def argument_spec(name: str) -> dict[str, Any]:
    """The literal ``argument_spec`` in a module's source."""
    tree = ast.parse((CHECKOUT / "plugins" / "modules" / f"{name}.py").read_text())
    for node in ast.walk(tree):
        value: ast.expr | None = None
        if isinstance(node, ast.keyword) and node.arg == "argument_spec":
            value = node.value
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and target.id == "argument_spec":
                value = node.value
        if isinstance(value, ast.Dict):
            spec: dict[str, Any] = ast.literal_eval(value)
            return spec
    pytest.fail(f"{name} has no literal argument_spec")


def compare(options: dict[str, Any], spec: dict[str, Any]) -> None:
    assert sorted(options) == sorted(spec)
    for name, option in options.items():
        for key in ("type", "elements", "choices", "default", "required"):
            assert option.get(key) == spec[name].get(key), f"{name}: {key}"
        if "suboptions" in option or "options" in spec[name]:
            compare(option["suboptions"], spec[name]["options"])


@pytest.mark.parametrize("name", MODULES)
def test_documentation_says_what_the_code_takes(name: str) -> None:
    document = documented(name)
    assert document["module"] == name
    assert {"check_mode", "diff_mode", "idempotent"} <= set(document["attributes"])
    compare(document["options"], argument_spec(name))


@pytest.mark.parametrize("name", MODULES)
def test_examples_and_return_values_are_yaml(name: str) -> None:
    module = importlib.import_module(
        f"ansible_collections.kubewright.cluster.plugins.modules.{name}"
    )
    tasks = yaml.safe_load(module.EXAMPLES)
    assert any(f"kubewright.cluster.{name}" in task for task in tasks)
    for value in yaml.safe_load(module.RETURN).values():
        assert {"description", "returned", "type"} <= set(value)


def smallest(name: str, path: Path) -> dict[str, Any]:
    """Arguments that a module accepts, of which none matters."""
    values = {"str": "0" * 64, "path": str(path), "int": 1, "list": [], "dict": {}}
    arguments = {
        option: about.get("choices", [values[about["type"]]])[0]
        for option, about in argument_spec(name).items()
        if about.get("required")
    }
    if name == "kubeadm":
        arguments["node"] = {"name": "a", "address": "192.0.2.1"}
    if name == "certificates":
        arguments["address"] = "192.0.2.1"
    if name == "join_credentials":
        arguments["nodes"] = ["a"]
    if name == "system_image":
        arguments["digest"] = "0" * 64
    return arguments


# These work in their action plugins alone.
@pytest.mark.parametrize("name", sorted(set(MODULES) - {"cluster_inventory", "run_epoch"}))
@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/var/a"), "/var/a: No space left"),
        (OSError(errno.EACCES, "Permission denied", ".t", None, "/var/a"), "/var/a: Permission"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system. Fix"),
        (KubewrightError("Mount it."), "Mount it."),
        (ZeroDivisionError("a fault of ours"), None),
    ],
)
def test_an_error_of_the_system_is_a_message(
    name: str,
    check: bool,
    error: Exception,
    said: str | None,
    run_module: RunModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a fault of a module's own is not hidden as one."""

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise error

    module = importlib.import_module(
        f"ansible_collections.kubewright.cluster.plugins.modules.{name}"
    )
    # Where each main() begins with its work.
    monkeypatch.setattr(fencing, "node_lock", fail)
    monkeypatch.setattr(client, "as_administrator", fail)
    if hasattr(module, "run"):
        monkeypatch.setattr(module, "run", fail)
    arguments = smallest(name, tmp_path / "file")
    if said is None:
        with pytest.raises(ZeroDivisionError):
            run_module(name, check=check, **arguments)
        return
    result = run_module(name, check=check, **arguments)
    if name == "cluster_ready" and check and isinstance(error, KubewrightError):
        assert result["missing"] == [said]  # nobody can look before there is a cluster
        return
    assert result["failed"]
    assert result["msg"].startswith(said)


def test_action_group_is_what_is_fenced() -> None:
    runtime = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())
    fenced = [name for name in MODULES if {"epoch", "lock_timeout"} <= argument_spec(name).keys()]
    assert sorted(runtime["action_groups"]["node"]) == fenced


def test_nodes_need_nothing_but_python(collections_path: Path) -> None:
    """Everything that a node's module imports, also indirectly, is Python's or travels with it."""
    code = """
        import importlib, sys
        OURS = {"ansible", "ansible_collections"}

        class Bare:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] not in OURS | sys.stdlib_module_names:
                    raise ModuleNotFoundError(f"no {name} on a node", name=name)

        path, *modules = sys.argv[1:]
        sys.meta_path.insert(0, Bare())
        sys.path.append(path)
        # All, and not just the first that fails.
        wrong = []
        for module in modules:
            try:
                importlib.import_module(f"ansible_collections.kubewright.cluster.plugins.modules.{module}")
            except ImportError as error:
                wrong.append(f"{module}: {error}")
        sys.exit("\\n".join(wrong) or None)
    """
    modules = sorted(set(MODULES) - LOCAL)
    assert "node_state" in modules
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(collections_path), *modules],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  module_defaults:
    group/kubewright.cluster.node: {epoch: 5}
  tasks:
    - name: Volume
      kubewright.cluster.node_parts:
        documents:
          first:
            volume:
              path: /run/kw/v.ext4
              type: local
              mount_point: /var/lib/kubewright/system
              label: kubewright
              size_bytes: 20000000000
              sparse: true
    - name: Mount
      ansible.builtin.command: mount -o loop /run/kw/v.ext4 /var/lib/kubewright/system
      args: {creates: /var/lib/kubewright/system/lost+found}
    - name: Files
      kubewright.cluster.node_parts:
        documents:
          second:
            files:
              - {path: /run/kw/key, secret: true, mode: "0600"}
              - {path: /run/kw/plain, content: "plain text\\n"}
        secrets: {/run/kw/key: "{{ lookup('env', 'SECRET') }}"}
    - name: Image
      kubewright.cluster.system_image:
        digest: "{{ lookup('pipe', 'sha256sum image').split()[0] }}"
        path: image
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs a mount namespace")
def test_ansible_runs_them(tmp_path: Path, ansible: Ansible) -> None:
    """A play with action plugin, action group, secrets and a real volume, first and second run."""
    (tmp_path / "play.yml").write_text(PLAY)
    make(tmp_path, "worker").path.rename(tmp_path / "image")
    script = f"""
        set -e
        mount -t tmpfs tmpfs /run && mkdir -p /var/lib/kubewright
        mount -t tmpfs tmpfs /var/lib/kubewright && mkdir /var/lib/kubewright/system
        echo READY
        {PLAYBOOK} play.yml -vvv
        {PLAYBOOK} play.yml
        cat /run/kw/key /var/lib/kubewright/epoch
        sha256sum /var/lib/kubewright/system/active/image.squashfs
        umount /var/lib/kubewright/system
    """
    done = ansible.play_apart(script, SECRET="very-secret-text")
    if "READY" not in done.stdout:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    if "could not set up loop device" in done.stdout or "failed to setup loop" in done.stdout:
        pytest.skip("no loop devices here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"changed=(\d+)", done.stdout) == ["4", "0"]
    shown, stored = done.stdout.rsplit("PLAY RECAP", 1)
    assert "very-secret-text" not in shown
    assert "very-secret-text5\n" in stored


def test_what_runs_on_nodes_is_checked_for_the_oldest_python_that_they_may_have() -> None:
    """A name that only a newer one has would be met on the node: the linters know them."""
    defaults = yaml.safe_load((CHECKOUT / "roles/preflight/defaults/main.yml").read_text())
    oldest = defaults["preflight_minimum_python"]
    assert f" --python-version {oldest} " in (CHECKOUT / "Makefile").read_text()
    ruff = tomllib.loads((CHECKOUT / "ruff.toml").read_text())
    assert ruff["per-file-target-version"]["plugins/**/*.py"] == f"py{oldest.replace('.', '')}"
