"""A default that several roles need says the same everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
import yaml

from kubewright.spec.models import Spec

ROLES = Path(__file__).parents[4] / "roles"


@pytest.mark.parametrize("name", ["pod_cidr", "service_cidr"])
def test_roles_and_spec_agree_on_networks(name: str) -> None:
    found = {
        path.parts[-3]: value
        for path in ROLES.glob("*/defaults/main.yml")
        for option, value in yaml.safe_load(path.read_text()).items()
        if option.endswith(f"_{name}")
    }
    assert "control_plane" in found
    expected = Spec.model_fields[name].default
    for role, value in found.items():
        assert re.search(r"default\('(.*?)'\)", value).group(1) == expected, role  # type: ignore[union-attr]


@pytest.mark.parametrize("role", ["control_plane", "node", "preflight", "worker"])
@pytest.mark.parametrize(
    ("told", "address"),
    [
        ({"ansible_host": "203.0.113.1"}, "203.0.113.1"),
        ({"ansible_host": "203.0.113.1", "kubewright_address": "192.0.2.1"}, "192.0.2.1"),
        (
            {"kubewright_machine": {"address": "192.0.2.2"}, "kubewright_address": "192.0.2.1"},
            "192.0.2.2",
        ),
    ],
)
def test_a_role_alone_takes_the_address_among_the_nodes(
    role: str, told: dict[str, object], address: str
) -> None:
    defaults = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(
        defaults[f"{role}_address"]
    )
    assert template.render(told) == address


def test_ports_and_names_of_the_api_agree() -> None:
    for suffix in ("api_port", "api_name"):
        found = {
            value
            for path in ROLES.glob("*/defaults/main.yml")
            for option, value in yaml.safe_load(path.read_text()).items()
            if option.endswith(suffix)
        }
        assert len(found) == 1, found
