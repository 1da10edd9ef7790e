# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubewright.cli.output import Format

File = Annotated[Path, typer.Option("-f", "--file", help="The cluster's file.", show_default=True)]
Form = Annotated[Format, typer.Option("-o", "--output", help="Format of the result on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without a question.")]

DEFAULT_FILE = Path("cluster.yml")
