# SPDX-License-Identifier: Apache-2.0
"""Templates that are compiled once: what they give is what Ansible gives."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from kubewright.collection import collections_path

#: Apart from pytest's process, whose imports Ansible would take over.
RENDER = """
import json, sys
from ansible.plugins.loader import init_plugin_loader

root, texts, shared, trusted, untrusted = json.load(sys.stdin)
init_plugin_loader([root])
from ansible.errors import AnsibleError
from ansible.template import Templar, trust_as_template
from ansible.parsing.dataloader import DataLoader
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _compiled

def trust(value):
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trust(one) for key, one in value.items()}
    return [trust(one) for one in value] if isinstance(value, list) else value

variables = {**trust(trusted), **untrusted}
ours = _compiled.Compiled()
compiled = []
compile_template = ours._compile
ours._compile = lambda source: compiled.append(source) or compile_template(source)
found = {"needed": sorted(_compiled.needed(texts, variables))}
for key in ("values", "again"):
    try:
        found[key] = ours.render(trust(texts), shared, variables, "/tmp")
    except AnsibleError as error:
        found[key] = {"error": str(error)}
try:
    found["ansible"] = Templar(DataLoader(), variables=variables).template(trust(texts))
except AnsibleError as error:
    found["ansible"] = {"error": str(error)}
found["compiled"] = compiled
json.dump(found, sys.stdout)
"""


def rendered(
    texts: list[str],
    trusted: dict[str, Any],
    untrusted: dict[str, Any] | None = None,
    shared: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What is rendered, twice; what Ansible's own renders; what is compiled, and what is needed."""
    told = json.dumps([str(collections_path()), texts, shared, trusted, untrusted or {}])
    words = [sys.executable, "-c", RENDER]
    done = subprocess.run(words, input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


VARIABLES = {
    "role": "{{ kind | upper }}",
    "kind": "worker",
    "ports": [80, "{{ more }}"],
    "more": 443,
    "plain": {"a": [1, "x"]},
    "gone": "{{ nowhere }}",
    "none": None,
    "flag": True,
}


@pytest.mark.parametrize("shared", [(), ("role", "gone", "plain", "unknown")])
@pytest.mark.parametrize(
    "texts",
    [
        ["{{ role }} {{ role }}", "{{ role == 'WORKER' }}", "{{ plain }}", "{{ ports }}"],
        ["{{ gone | default('x') }}", "{{ none }}", "{{ flag }}", "{% if flag %}y{% endif %}"],
        ["{{ lookup('ansible.builtin.vars', 'ki' ~ 'nd') }}", "{{ vars['kind'] }}"],
        ["{{ gone }}"],
        ["{{ unknown_variable }}"],
        ["{{ 'a' | no_such_filter }}"],
    ],
)
def test_it_is_what_ansible_renders(texts: list[str], shared: tuple[str, ...]) -> None:
    found = rendered(texts, VARIABLES, shared=shared)
    if "error" in found["ansible"]:
        assert "error" in found["values"] and "error" in found["again"]
        (line, *_) = found["ansible"]["error"].splitlines()
        assert line.rpartition(": ")[2] in found["values"]["error"]
        return
    assert found["values"] == found["again"] == found["ansible"]


def test_each_text_is_compiled_once() -> None:
    found = rendered(["{{ role }}!", "{{ role }}?"], VARIABLES)
    assert found["values"] == ["WORKER!", "WORKER?"]
    assert sorted(found["compiled"]) == ["{{ kind | upper }}", "{{ role }}!", "{{ role }}?"]


@pytest.mark.parametrize("shared", [(), ("theirs", "through")])
def test_what_is_not_trusted_is_no_template(shared: tuple[str, ...]) -> None:
    canary = "{{ lookup('ansible.builtin.pipe', 'id') }}"
    trusted = {"through": "{{ theirs }}"}
    texts = ["{{ theirs }}", "{{ through }}", "<{{ theirs }}>"]
    found = rendered(texts, trusted, {"theirs": canary}, shared)
    assert found["values"] == found["ansible"] == [canary, canary, f"<{canary}>"]


def test_a_template_is_shown_what_it_can_reach() -> None:
    assert rendered(["{{ role }}"], VARIABLES)["needed"] == ["kind", "role"]
    assert rendered(["{{ ports }}"], VARIABLES)["needed"] == ["more", "ports"]
    everything = sorted(VARIABLES)
    assert rendered(["{{ vars['ki' ~ 'nd'] }}"], VARIABLES)["needed"] == everything
    reached = {**VARIABLES, "role": "{{ lookup('ansible.builtin.vars', 'kind') }}"}
    assert rendered(["{{ role }}"], reached)["needed"] == everything
