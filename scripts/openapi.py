"""`percept openapi [FILE]`: describes the API of the all-in-one service, without a model or a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
def command(file: Path | None) -> None:
    """Write the OpenAPI description of all routes to FILE, or print it. The settings decide the limits in it."""
    from shared.project import CODE_ROOT

    sys.path.insert(0, str(CODE_ROOT))  # a checkout need not be the working directory
    import service

    described = json.dumps(service.APP.openapi(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    if file is None:
        click.echo(described, nl=False)
    else:
        file.write_text(described, encoding="utf-8")
