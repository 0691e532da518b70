"""`percept package vision|nlp|all`: from bundles to a bento that was served and asked, with the recipe of its image."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.argument("service", type=click.Choice(["vision", "nlp", "all"]))
@click.option("--bundle", "named", multiple=True, metavar="FOLDER|TAG", help="A model; the starters if none is named.")
@click.option("--version", help="Version of the bento; made by BentoML if not given.")
@click.option(
    "--alias", "aliases", multiple=True, help="A further tag for the models in the store, such as production."
)
@click.option("--gpu", is_flag=True, help="With torch and the models' weights, to compute on an NVIDIA GPU.")
@click.option("--base-image", help="The image to build on; as pinned in the recipe if not given.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="A new folder that gets a copy: what docker build needs."
)
@click.option(
    "--home", type=click.Path(path_type=Path), help="BentoML's store; $BENTOML_HOME or ~/bentoml if not given."
)
@click.option("--no-check", is_flag=True, help="Do not serve and ask what was built.")
@click.option("--dockerfile", is_flag=True, help="Print the image's recipe, and build nothing.")
def command(
    service: str,
    named: tuple[str, ...],
    version: str | None,
    aliases: tuple[str, ...],
    gpu: bool,
    base_image: str | None,
    output: Path | None,
    home: Path | None,
    no_check: bool,
    dockerfile: bool,
) -> None:
    """Build a bento of the vision or the language service, or of both on one port, and ask it what its models know.

    Models go into BentoML's store under their version; a tag of it, such as percept-tagger:production, names one too.
    """
    from shared.packaging.dockerfile import render_dockerfile

    if dockerfile:
        click.echo(render_dockerfile(gpu=gpu, base_image=base_image), nl=False)
        return
    if home:
        os.environ["BENTOML_HOME"] = str(home.resolve())  # before BentoML is imported, which reads it then
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from scripts.tasks import TASKS
    from shared.packaging import package

    wanted = package.Wanted(
        service=service, named=named, version=version, aliases=aliases, gpu=gpu, base_image=base_image, output=output
    )
    for line in package.package(wanted, None if no_check else TASKS):
        click.echo(line)
