# SPDX-License-Identifier: Apache-2.0
"""Which system image a user means, and for which nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubewright.act.messages import named as joined
from kubewright.image.index import ROLES
from kubewright.image.store import Store
from kubewright.operate.errors import OperationError, Why
from kubewright.spec import Spec
from kubewright.spec.images import current
from kubewright.spec.roster import Roster
from kubewright.spec.rules import Unresolved
from kubewright.spec.version import release, resolve

_DIGEST = re.compile(r"[0-9a-f]{64}")
#: So many digits of a digest name an image, and no version looks like it.
LEAST_DIGITS = 6
_BEGINNING = re.compile(rf"[0-9a-f]{{{LEAST_DIGITS},64}}")
_TOO_SHORT = re.compile(rf"[0-9a-f]{{1,{LEAST_DIGITS - 1}}}")


@dataclass(frozen=True)
class Choice:
    """The image of each role that has one; ``path`` is empty where this machine does not have it.

    ``str()``: what it is, for a question. ``kubernetes``: its release, empty where only nodes know.
    """

    variables: Mapping[str, Mapping[str, str]]
    words: str
    kubernetes: str = ""

    @property
    def digests(self) -> frozenset[str]:
        """All of them."""
        return frozenset(image["digest"] for image in self.variables.values())

    def __str__(self) -> str:
        return self.words


def choose(spec: Spec, text: str | None, store: Store | None = None) -> Choice:
    """Return what ``text`` means: a digest or its beginning, a version, or None for the file's.

    A whole digest need not be on this machine: nodes may have it, or fetch it.

    :raises OperationError: where it means nothing, or several images.
    """
    images = store or Store()
    if text and _BEGINNING.fullmatch(text):
        found = {one.digest: one for one in images.list() if one.digest.startswith(text)}
        if len(found) > 1:
            raise _bad(f"{text} matches {len(found)} digests", "Give more digits.")
        for image in found.values():
            told = {"digest": image.digest, "path": str(images.path(image))}
            words = f"{image.digest[:12]} ({image.kubernetes}, {image.role})"
            return Choice({image.role: told}, words, image.kubernetes)
        if _DIGEST.fullmatch(text):
            told = {"digest": text, "path": ""}
            return Choice({str(role): told for role in ROLES}, text[:12])
        raise _bad(
            f"no image on this machine has a digest that starts with {text}",
            "'kubewright image list' shows the images on this machine; for any other image give "
            "the full digest.",
        )
    if text and _TOO_SHORT.fullmatch(text):
        raise _bad(
            f"{text} is neither a Kubernetes version nor a long enough digest",
            f"Give at least {LEAST_DIGITS} digits of a digest that 'kubewright image list' "
            "shows, or a version such as 1.37.",
        )
    version = _version(text, spec.name) if text else release(spec)
    known = current(version, images)
    if not known:
        raise _bad(
            f"this machine has no system image of Kubernetes {version}",
            f"Build it: kubewright image build {version}.",
        )
    told_by_role = {
        role: {"digest": image.digest, "path": str(image.path)} for role, image in known.items()
    }
    return Choice(told_by_role, f"the images of Kubernetes {version}", version)


def require_release(spec: Spec, choice: Choice) -> None:
    """Return where nodes may run from the images: they are of the cluster's own release.

    Of images that only nodes know, nodes see to it.

    :raises OperationError: where they are of another one.
    """
    own = release(spec)
    if choice.kubernetes not in ("", own):
        raise OperationError(
            f"{choice} would change the Kubernetes version of {spec.name} ({own}): "
            "Kubewright can't upgrade a cluster yet",
            remedy=f"Activate an image of its own release: kubewright node image activate {own}.",
            why=Why.REFUSED,
        )


def nodes(members: Roster, choice: Choice, asked: Sequence[str], *, named: bool) -> tuple[str, ...]:
    """Return those of the nodes that the choice has an image for. ``named``: by the user.

    :raises OperationError: where it has none for one that was named, or for any.
    """
    planes = set(members.planes)
    role = {host: "control_plane" if host in planes else "worker" for host in asked}
    other = [host for host in asked if role[host] not in choice.variables]
    if (named and other) or len(other) == len(asked):
        roles = sorted({role[host] for host in other})
        raise _bad(
            f"{choice} is not an image for {joined(other)} ({joined(roles)})",
            "Give an image for their role; see 'kubewright image list'.",
        )
    return tuple(host for host in asked if host not in other)


def _version(text: str, cluster: str) -> str:
    try:
        return resolve(text.removeprefix("v"), cluster)
    except Unresolved as error:
        raise _bad(error.message, f"{error.remedy}.") from error


def _bad(message: str, remedy: str) -> OperationError:
    return OperationError(message, remedy=remedy, why=Why.BAD_INPUT)
