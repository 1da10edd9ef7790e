# SPDX-License-Identifier: Apache-2.0
"""A stub of AWX's REST API: what the modules of awx.awx ask of it, with objects in memory.

It is not AWX. It knows one token, makes, changes, lists and relates objects, hides secrets, and
refuses what AWX refuses in surveys, credentials and playbooks. It runs nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

TOKEN = "stub-token"
HIDDEN = "$encrypted$"
KINDS = (
    "organizations",
    "execution_environments",
    "credential_types",
    "credentials",
    "projects",
    "inventories",
    "inventory_sources",
    "job_templates",
)
QUESTIONS = {"text": str, "textarea": str, "integer": int, "float": float, "multiplechoice": str}


class Refused(Exception):
    """The answer 400, with what is wrong by field."""


@dataclass
class StubController:
    """The objects by kind and id. ``playbooks``: the files of every project."""

    playbooks: list[str]
    url: str = ""
    objects: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    related: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    surveys: dict[int, dict[str, Any]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.objects = {kind: {} for kind in KINDS}
        self.make("organizations", {"name": "Default"})
        machine = self.make("credential_types", {"name": "Machine", "inputs": {"fields": []}})
        fields = {"name": "machines", "credential_type": machine["id"], "inputs": {}}
        self.make("credentials", fields)
        self.writes.clear()

    def named(self, kind: str, name: str) -> dict[str, Any]:
        """The object of that name."""
        (found,) = [each for each in self.objects[kind].values() if each["name"] == name]
        return found

    def make(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """Add an object."""
        number = 1 + max((key for each in self.objects.values() for key in each), default=0)
        self._check(kind, data)
        url = f"/api/v2/{kind}/{number}/"
        made = {"id": number, "type": kind.removesuffix("s"), "url": url, "summary_fields": {}}
        if kind == "job_templates":
            made["related"] = {"survey_spec": f"{url}survey_spec/"}
        if kind == "projects":
            made["scm_revision"] = "0" * 40
        self.objects[kind][number] = {**made, **data}
        self.writes.append(f"POST {kind} {data['name']}")
        return self.objects[kind][number]

    def change(self, kind: str, number: int, data: dict[str, Any]) -> dict[str, Any]:
        """Change an object."""
        self._check(kind, data)
        self.objects[kind][number].update(data)
        self.writes.append(f"PATCH {kind} {self.objects[kind][number]['name']}")
        return self.objects[kind][number]

    def search(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """The objects whose fields are those of the query."""
        return [
            each
            for each in self.objects[kind].values()
            if all(str(each.get(name)) == value for name, value in query.items())
        ]

    def shown(self, kind: str, item: dict[str, Any]) -> dict[str, Any]:
        """An object as AWX shows it: without secrets."""
        if kind != "credentials":
            return item
        fields = self.objects["credential_types"][item["credential_type"]]["inputs"]["fields"]
        secret = {each["id"] for each in fields if each.get("secret")}
        inputs = {key: HIDDEN if key in secret else v for key, v in item["inputs"].items()}
        return {**item, "inputs": inputs}

    def _check(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "job_templates" and data.get("playbook", "site.yml") not in self.playbooks:
            raise Refused({"playbook": ["Playbook not found for project."]})
        if kind == "credentials" and "inputs" in data:
            inputs = self.objects["credential_types"][data["credential_type"]]["inputs"]
            known = {each["id"] for each in inputs["fields"]}
            if unknown := set(data["inputs"]) - known:
                raise Refused({"inputs": [f"Unknown: {sorted(unknown)}"]})
            if missing := set(inputs.get("required", [])) - set(data["inputs"]):
                raise Refused({"inputs": [f"Required: {sorted(missing)}"]})

    def set_survey(self, number: int, survey: dict[str, Any]) -> None:
        """Give a job template its survey, by AWX's rules for questions."""
        if not all(isinstance(survey.get(key), str) for key in ("name", "description")):
            raise Refused({"error": "name and description are text"})
        for question in survey["spec"] or [{}]:
            kind = QUESTIONS.get(question.get("type", ""))
            named = all(isinstance(question.get(k), str) for k in ("question_name", "variable"))
            if kind is None or not named or not isinstance(question.get("required"), bool):
                raise Refused({"error": f"not a question: {question}"})
            if question["type"] == "multiplechoice" and not all(
                isinstance(choice, str) for choice in question["choices"]
            ):
                raise Refused({"error": "choices are text"})
        self.surveys[number] = survey
        self.writes.append(f"POST survey {self.objects['job_templates'][number]['name']}")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    controller: ClassVar[StubController]

    def _answer(self, status: int, data: Any = None) -> None:
        body = b"" if data is None else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.end_headers()
        self.wfile.write(body)

    def _handle(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"detail": "Invalid token."})
            return
        try:
            self._route(data)
        except Refused as refused:
            self._answer(400, refused.args[0])

    def _route(self, data: dict[str, Any]) -> None:
        awx, url = self.controller, urlsplit(self.path)
        words = url.path.removeprefix("/api/v2/").strip("/").split("/")
        kind, number = words[0], int(words[1]) if len(words) > 1 else 0
        match (self.command, words[1:]):
            case ("GET", []):
                found = awx.search(kind, dict(parse_qsl(url.query, keep_blank_values=True)))
                self._list([awx.shown(kind, each) for each in found])
            case ("POST", []):
                self._answer(201, awx.shown(kind, awx.make(kind, data)))
            case ("PATCH", [_]):
                self._answer(200, awx.shown(kind, awx.change(kind, number, data)))
            case ("GET", [_, "survey_spec"]):
                self._answer(200, awx.surveys.get(number, {}))
            case ("POST", [_, "survey_spec"]):
                awx.set_survey(number, data)
                self._answer(200, {})
            case ("GET", [_, relation]):
                ids = awx.related.get((kind, number, relation), [])
                self._list([{"id": each} for each in ids])
            case ("POST", [_, relation]):
                ids = awx.related.setdefault((kind, number, relation), [])
                (ids.remove if data.get("disassociate") else ids.append)(data["id"])
                awx.writes.append(f"POST {relation} {awx.objects[kind][number]['name']}")
                self._answer(204)
            case _:
                self._answer(405)

    def _list(self, results: list[dict[str, Any]]) -> None:
        self._answer(200, {"count": len(results), "next": None, "results": results})

    do_GET = do_POST = do_PATCH = _handle

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(controller: StubController) -> Iterator[StubController]:
    """Let the stub answer at ``controller.url``."""
    handler = type("Bound", (Handler,), {"controller": controller})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    controller.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield controller
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
