# SPDX-License-Identifier: Apache-2.0
"""What a good file means, what merge keys do, and the published schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from kubewright.spec import json_schema
from kubewright.spec.loading import check
from kubewright.spec.models import Spec
from kubewright.spec.rules import Surroundings

ROOT = Path(__file__).parents[3]
SMALLEST = """\
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
control_plane: {provider: local, size: 3}
pools: [{name: web, provider: local, size: 2}]
"""


def parsed(text: str) -> Spec:
    return check(text, Path("cluster.yml"), Surroundings(providers={"local"}))


def test_the_smallest_file() -> None:
    spec = parsed(SMALLEST)
    assert (spec.name, spec.version, spec.control_plane.size) == ("demo", "1.37", 3)
    assert [(pool.name, pool.provider, pool.size) for pool in spec.pools] == [("web", "local", 2)]
    assert (spec.pod_cidr, spec.service_cidr) == ("10.244.0.0/16", "10.96.0.0/16")
    assert spec.machine_count == 5


def test_a_cluster_without_workers() -> None:
    text = SMALLEST.replace("[{name: web, provider: local, size: 2}]", "[]")
    assert parsed(text).pools == ()


def test_what_is_shared_is_written_once() -> None:
    text = SMALLEST.splitlines()[:4]
    text += [
        "pools:",
        "  - &small {name: web, provider: local, size: 1}",
        "  - {<<: *small, name: batch}",
    ]
    assert [(pool.name, pool.size) for pool in parsed("\n".join(text)).pools] == [
        ("web", 1),
        ("batch", 1),
    ]


@pytest.mark.parametrize("network", ["10.96.0.0/12", "10.96.0.0/28", "192.168.0.0/20"])
def test_service_networks_at_the_bounds(network: str) -> None:
    assert parsed(f"{SMALLEST}service_cidr: {network}\n").service_cidr == network


@pytest.mark.parametrize("network", ["172.16.0.0/21", "172.16.0.0/12"])
def test_pod_networks_at_the_bounds(network: str) -> None:
    assert parsed(f"{SMALLEST}pod_cidr: {network}\n").pod_cidr == network


def test_a_host_name_of_exactly_63_characters() -> None:
    name = "x" * (63 - len("-web-1"))
    assert parsed(SMALLEST.replace("demo", name)).name == name


def test_a_spec_never_changes() -> None:
    with pytest.raises(ValidationError):
        parsed(SMALLEST).name = "other"  # type: ignore[misc]


def test_the_published_schema_is_current() -> None:
    published = ROOT / "docs" / "schema" / "cluster.schema.json"
    assert json.loads(published.read_text()) == json_schema(), (
        "write it anew: kubewright schema > docs/schema/cluster.schema.json"
    )


def test_the_schema_takes_good_files_and_refuses_bad_ones() -> None:
    dialect = jsonschema.Draft202012Validator
    validator = dialect(json_schema(), format_checker=dialect.FORMAT_CHECKER)
    validator.check_schema(json_schema())
    good = yaml.safe_load(SMALLEST)
    validator.validate(good)
    node = {"name": "alpha", "address": "192.0.2.11"}
    static = {"provider": "static", "nodes": [node]}
    validator.validate({**good, "control_plane": static})
    validator.validate({**good, "pools": [{"name": "a", "provider": "static", "nodes": []}]})
    for bad in (
        {**good, "control_plane": {"provider": "local", "size": None}},
        {**good, "pools": [{"name": "web", "provider": "local", "size": None}]},
        {**good, "control_plane": {**static, "nodes": []}},
        {**good, "control_plane": {**static, "nodes": [{**node, "address": "alpha.example"}]}},
        {**good, "poolz": []},
        {**good, "version": 1.37},
        {**good, "control_plane": {"provider": "local", "size": 2}},
        {**good, "pools": [{"name": "cp", "provider": "local", "size": 1}]},
    ):
        assert not validator.is_valid(bad), bad
