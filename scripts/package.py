"""`percept package vision|nlp|all`: builds a bento from bundles, tests it, and writes the Dockerfile of its image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("service", type=click.Choice(["vision", "nlp", "all"]))
@click.option(
    "--bundle", "named", multiple=True, metavar="FOLDER|TAG", help="A model; the starter models if none is named."
)
@click.option("--version", help="Version of the bento; BentoML makes one if not given.")
@click.option(
    "--alias", "aliases", multiple=True, help="A further tag for the models in the store, such as production."
)
@click.option("--gpu", is_flag=True, help="With torch and the models' weights, for an NVIDIA GPU.")
@click.option("--base-image", help="The image to build on; the one that the Dockerfile pins if not given.")
@click.option("--output", type=click.Path(path_type=Path), help="Copy the bento to this new folder, for docker build.")
@click.option(
    "--home", type=click.Path(path_type=Path), help="BentoML's store; $BENTOML_HOME or ~/bentoml if not given."
)
@click.option("--no-check", is_flag=True, help="Do not test the bento.")
@click.option("--dockerfile", is_flag=True, help="Print the Dockerfile, and build nothing.")
def command(
    service: str,
    named: tuple[str, ...],
    gpu: bool,
    base_image: str | None,
    home: Path | None,
    no_check: bool,
    dockerfile: bool,
    **options: Any,
) -> None:
    """Build a bento of the vision or the language service, or of both on one port, and test its answers.

    Models go into BentoML's store under their version. A tag of the store, such as percept-tagger:production, also
    names a model.
    """
    from shared.packaging.dockerfile import render_dockerfile

    if dockerfile:
        click.echo(render_dockerfile(gpu=gpu, base_image=base_image), nl=False)
        return
    if home:
        os.environ["BENTOML_HOME"] = str(home.resolve())  # before BentoML is imported, which reads it then
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from scripts.tasks import TASKS
    from shared.packaging.package import package

    tasks = None if no_check else TASKS
    for line in package(service, named, tasks, gpu=gpu, base_image=base_image, **options):
        click.echo(line)
