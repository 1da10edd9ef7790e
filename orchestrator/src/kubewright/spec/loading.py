# SPDX-License-Identifier: Apache-2.0
"""cluster.yml to :class:`Spec`, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from kubewright.collection import collection_dir
from kubewright.spec import messages, providers, rules, source
from kubewright.spec.errors import Finding, Problem, SpecError, dotted
from kubewright.spec.models import Spec
from kubewright.spec.version import resolve


def load(path: Path | str, *, known_providers: Collection[str] | None = None) -> Spec:
    """Read and check a file.

    ``known_providers``: what the file may name; by default the installed collection's, and any
    name when there is no collection beside the package.

    :raises SpecError: with all problems of the file, not only the first.
    """
    file = Path(path)
    text = _read(file)
    if known_providers is None:
        known_providers = providers.find(collection_dir())
    return check(text, file, rules.Surroundings(providers=known_providers, resolve=resolve))


def check(text: str, file: Path, around: rules.Surroundings) -> Spec:
    """Return the spec that a text says; ``file`` is for messages only.

    :raises SpecError: with all problems of the text.
    """
    try:
        document, duplicates = source.parse(text)
    except source.SyntaxProblem as error:
        raise SpecError(
            [Problem(file, error.mark.line, error.mark.column, "", error.message, error.remedy)]
        ) from error
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else "is not a mapping of fields"
        remedy = "write at least plugin, name, version, control_plane and pools"
        raise SpecError([Problem(file, 1, 1, "", what, remedy)])
    problems = [
        Problem(
            file,
            double.mark.line,
            double.mark.column,
            dotted(double.location),
            f"is set twice, first on line {double.first_line}",
            "keep one of them",
        )
        for double in duplicates
    ]
    spec, found = _validate(document)
    known = {finding.location for finding in found}
    found += [
        finding for finding in rules.check(document.data, around) if finding.location not in known
    ]
    problems += [_placed(finding, document, file) for finding in found]
    if problems or spec is None:
        raise SpecError(
            sorted(problems, key=lambda problem: (problem.line, problem.column, problem.field))
        )
    return spec


def _validate(document: source.Document) -> tuple[Spec | None, list[Finding]]:
    try:
        return Spec.model_validate(document.data), []
    except ValidationError as error:
        return None, messages.findings(error, document.raw)


def _placed(finding: Finding, document: source.Document, file: Path) -> Problem:
    mark = document.mark(finding.location, at_key=finding.at_key)
    return Problem(
        file, mark.line, mark.column, dotted(finding.location), finding.message, finding.remedy
    )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        what, remedy = (
            "there is no such file",
            "give its name with --file, or write one: docs/cluster.md has a minimal example",
        )
    except IsADirectoryError:
        what, remedy = "is a directory", "give the name of the file in it"
    except UnicodeDecodeError as error:
        what, remedy = f"is not UTF-8 text (byte {error.start})", "save it as UTF-8"
    except OSError as error:
        what, remedy = f"can't be read: {error.strerror}", "check its permissions"
    raise SpecError([Problem(file, 0, 0, "", what, remedy)])
