# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The exceptions that modules turn into ``fail_json``."""

from __future__ import annotations

from typing import Any


class KubewrightError(Exception):
    """Something a user can act on: the text says what happened, where, and what to do."""

    # What the module's result is marked with, for its action plugin, and what it says there.
    mark = ""
    marked: str | bool = True


# What a module's main() ends on with `failure`. Anything else is a fault of this collection and
# keeps its traceback.
FORESEEN = (KubewrightError, OSError)


def message(error: KubewrightError | OSError) -> str:
    """The text for a user; of an `OSError` the file, what the system said, and what to do."""
    if isinstance(error, KubewrightError):
        return str(error)
    # Of a rename or a link the second name is the one that is known to a user.
    path = error.filename2 or error.filename
    said = error.strerror or str(error) or type(error).__name__
    return (
        f"{f'{path}: ' if path else ''}{said}. Fix the cause on that machine (see `df "
        "-h`, `df -i`, `findmnt` and `dmesg`), then run it again."
    )


def failure(error: KubewrightError | OSError) -> dict[str, Any]:
    """What a module that ends on it gives to ``fail_json``.

    ``foreseen`` is for its action plugin: the text is for a user, and holds no secret.
    """
    marks = {error.mark: error.marked} if isinstance(error, KubewrightError) and error.mark else {}
    return {"msg": message(error), "foreseen": True, **marks}
