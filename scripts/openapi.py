"""`percept openapi [FILE]`: the description of the all-in-one API, without a model or a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
def command(file: Path | None) -> None:
    """Write the OpenAPI description of all routes to FILE, or print it; limits are those of the settings."""
    from shared.errors import ConfigError
    from shared.serving.settings import PROJECT_ROOT

    source = PROJECT_ROOT / "service.py"
    if not source.is_file():
        raise ConfigError("service.py, the all-in-one service, is not installed. Run this from a checkout of Percept.")
    sys.path.insert(0, str(PROJECT_ROOT))
    import service

    described = json.dumps(service.APP.openapi(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    if file is None:
        click.echo(described, nl=False)
    else:
        file.write_text(described, encoding="utf-8")
