# SPDX-License-Identifier: Apache-2.0
"""playbooks/awx.yml against a stub of AWX: it makes everything, and mends only what drifted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stub_controller import TOKEN, StubController, serving

Play = Callable[..., "subprocess.CompletedProcess[str]"]
CHECKOUT = Path(__file__).resolve().parents[3]
PLAYBOOKS = sorted(path.name for path in (CHECKOUT / "awx/project").glob("*.yml"))
TEMPLATES = yaml.safe_load((CHECKOUT / "awx/templates.yml").read_text())["kubewright_awx_templates"]
# A module costs a second: two of the templates stand for all.
FEW = {"kubewright_awx_templates": [each for each in TEMPLATES if each["name"] in ("plan", "site")]}
SECRET = '{"kubewright_identity": 1, "pki": "a-secret-of-the-cluster"}'


@pytest.fixture
def controller() -> Iterator[StubController]:
    with serving(StubController(PLAYBOOKS)) as stub:
        yield stub


def setup(play: Play, stub: StubController, *words: str, token: str = TOKEN) -> Any:
    """The results of tasks by name and item, of a run of the playbook."""
    process = play(
        "kubewright.cluster.awx",
        "-e=kubewright_awx_image=registry.example.com/kubewright:1",
        "-e=kubewright_awx_scm_url=https://git.example.com/demo.git",
        "-e=kubewright_awx_machine_credential=machines",
        f"-e={json.dumps(FEW)}",
        *words,
        CONTROLLER_HOST=stub.url,
        CONTROLLER_OAUTH_TOKEN=token,
    )
    assert "a-secret-of-the-cluster" not in process.stdout + process.stderr
    results = {}
    for task in json.loads(process.stdout)["plays"][0]["tasks"]:
        result = task["hosts"]["localhost"]
        for each in result.get("results", [result]):
            item = each.get("item")
            name = item["name"] if isinstance(item, dict) else task["task"]["name"]
            results[name] = each
    return process.returncode, results


def changed(results: dict[str, Any]) -> set[str]:
    return {name for name, result in results.items() if result.get("changed")}


@pytest.mark.timeout(300)
def test_makes_everything_then_mends_only_what_drifted(
    play: Play, controller: StubController, tmp_path: Path
) -> None:
    (tmp_path / "identity.json").write_text(SECRET)
    bundle = f"-e=kubewright_awx_identity_bundle={tmp_path}/identity.json"
    status, results = setup(play, controller, bundle)
    assert status == 0, results
    _site_is_whole(controller)
    kind = controller.named("credential_types", "Kubewright identity")
    # AWX's own templates, not Ansible's.
    assert kind["injectors"] == {
        "file": {"template": "{{ bundle }}"},
        "extra_vars": {"kubewright_identity_bundle": "{{ tower.filename }}"},
    }
    assert json.loads(controller.named("credentials", "Kubewright identity")["inputs"]["bundle"])
    source = controller.named("inventory_sources", "Kubewright")
    assert (source["source"], source["source_path"]) == ("scm", "cluster.yml")
    assert json.loads(source["source_vars"])["KUBEWRIGHT_STATE_DIR"] == "/tmp/kubewright"

    controller.named("job_templates", "Kubewright plan")["job_type"] = "run"
    site = controller.named("job_templates", "Kubewright site")
    controller.surveys[site["id"]]["spec"].pop()
    controller.writes.clear()
    status, results = setup(play, controller, bundle)
    assert status == 0, results
    assert changed(results) == {"plan", "site"}
    assert controller.writes == [
        "PATCH job_templates Kubewright plan",
        "POST survey Kubewright site",
    ]
    assert controller.named("job_templates", "Kubewright plan")["job_type"] == "check"
    _site_is_whole(controller)


def _site_is_whole(controller: StubController) -> None:
    site = controller.named("job_templates", "Kubewright site")
    ids = [controller.named("credentials", n)["id"] for n in ("Kubewright identity", "machines")]
    assert sorted(controller.related["job_templates", site["id"], "credentials"]) == sorted(ids)
    assert (site["playbook"], site["job_type"]) == ("site.yml", "run")
    assert site["allow_simultaneous"] is False
    surveys = yaml.safe_load((CHECKOUT / "awx/surveys.yml").read_text())["kubewright_awx_surveys"]
    assert controller.surveys[site["id"]] == surveys["site"]


@pytest.mark.timeout(120)
def test_a_check_of_a_first_run_changes_nothing(
    play: Play, controller: StubController, tmp_path: Path
) -> None:
    status, results = setup(play, controller, "--check")
    assert status == 0, results
    assert controller.writes == []
    assert "Converge the execution environment" in changed(results)
    assert "Converge the inventory" in changed(results)


@pytest.mark.timeout(120)
def test_a_bad_token_is_said(play: Play, controller: StubController) -> None:
    status, results = setup(play, controller, token="another")
    assert status == 2
    failed = results["Converge the execution environment"]
    assert "Invalid authentication credentials for /api/v2/execution_environments/" in failed["msg"]
    assert controller.writes == []


def test_each_template_has_its_playbook_and_survey() -> None:
    surveys = yaml.safe_load((CHECKOUT / "awx/surveys.yml").read_text())["kubewright_awx_surveys"]
    assert {each["survey"] for each in TEMPLATES} == set(surveys)
    assert {each["playbook"] for each in TEMPLATES} == set(PLAYBOOKS) - {"cluster.yml"}
    for each in TEMPLATES:
        for play in yaml.safe_load((CHECKOUT / "awx/project" / each["playbook"]).read_text()):
            # This short name is the one by which AWX finds out that a file is a playbook.
            namespace, _, name = play["import_playbook"].rpartition(".")
            assert namespace == "kubewright.cluster"
            assert (CHECKOUT / "playbooks" / f"{name}.yml").is_file(), name


def test_an_answer_of_yes_or_no_is_text_that_roles_turn_into_a_boolean() -> None:
    """AWX's choices are text, and "false" would be true in a template."""
    surveys = yaml.safe_load((CHECKOUT / "awx/surveys.yml").read_text())["kubewright_awx_surveys"]
    questions = [each for survey in surveys.values() for each in survey["spec"]]
    asked = {each["variable"] for each in questions if each.get("choices") == ["true", "false"]}
    asked.remove("kubewright_skip_unreachable")  # a module's argument: Ansible turns it into one
    assert "system_volume_sparse" in asked
    files = [*CHECKOUT.glob("roles/*/vars/*.yml"), *CHECKOUT.glob("roles/*/tasks/*.yml")]
    used = set()
    for line in (line for file in files for line in file.read_text().splitlines()):
        for variable in asked:
            if variable in line:
                used.add(variable)
                assert f"{variable} | bool" in line, line
    assert used == asked
