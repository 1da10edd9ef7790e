# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: a directory of system images, as the command leaves it.

It has the squashfs files and their index, a list of mappings of which these count: ``kubernetes``
(the release), ``role``, ``digest`` (SHA-256 of the file, in hex), ``file`` (its name there),
``size`` (its bytes) and ``built_at`` (RFC 3339).
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

INDEX = "index.json"
FIELDS = {"kubernetes": str, "role": str, "digest": str, "file": str, "size": int, "built_at": str}


class Images:
    """The images of one release in a directory.

    ``found`` has digest and path by role, ``problems`` what is missing.
    """

    def __init__(self, version: str, directory: object) -> None:
        self._version = version
        self._directory = directory
        self._asked: set[str] = set()
        self.found: dict[str, dict[str, str]] = {}
        self.problems: list[str] = []

    def need(self, role: str) -> None:
        """Find the image of a role, the newest if there are several."""
        if role in self._asked:
            return
        self._asked.add(role)
        try:
            self.found[role] = self._find(role)
        except KubewrightError as error:
            self.problems.append(str(error))

    def _find(self, role: str) -> dict[str, str]:
        how = (
            f"Build the images with `kubewright image build {self._version}` on any machine "
            "and copy its directory ~/.cache/kubewright/images here"
        )
        if not self._directory:
            raise KubewrightError(
                f"No system image is set for the role {role}. {how}, then set "
                "kubewright_image_dir to it."
            )
        place = Path(str(self._directory)).expanduser()
        images = [
            image
            for image in _index(place, how)
            if (image["kubernetes"], image["role"]) == (self._version, role)
        ]
        if not images:
            raise KubewrightError(
                f"{place / INDEX} has no image of Kubernetes {self._version} for the role {role}. "
                f"{how}."
            )
        newest = max(images, key=lambda image: _time(image["built_at"]))
        path = place / newest["file"]
        if not path.is_file() or path.stat().st_size != newest["size"]:
            raise KubewrightError(
                f"{path} is missing or does not have the {newest['size']} bytes that {INDEX} says. "
                f"{how}."
            )
        return {"digest": newest["digest"], "path": str(path.absolute())}


def _index(place: Path, how: str) -> list[dict[str, Any]]:
    path = place / INDEX
    try:
        images = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KubewrightError(f"There is no {path}. {how}.") from None
    except (OSError, ValueError) as error:
        raise KubewrightError(f"{path} can't be read: {error}. {how}.") from error
    if not isinstance(images, list) or not all(_is_image(image) for image in images):
        raise KubewrightError(f"{path} is not an index of system images. {how}.")
    return images


def _is_image(image: object) -> bool:
    return isinstance(image, dict) and all(
        isinstance(image.get(name), kind) for name, kind in FIELDS.items()
    )


def _time(text: str) -> float:
    """Seconds since 1970; 0 for what is no time, which is then the oldest."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
