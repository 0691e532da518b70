"""`percept predict BUNDLE FILES…`: tags photos on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@click.option("--top-k", type=click.IntRange(min=1), help="At most so many tags a photo.")
@click.option(
    "--min-score", type=click.FloatRange(0, 1), help="The least score; each label's own threshold if not given."
)
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]), help="What computes."
)
def command(
    bundle: Path, files: tuple[Path, ...], as_json: bool, top_k: int | None, min_score: float | None, device: str
) -> None:
    """Tag FILES, which are photos or folders of photos, with BUNDLE.

    Photos that cannot be read are named and do not stop the others; the exit status is 1 if there were any.
    """
    from scripts.tasks import task_of
    from shared.bundle.read import read_bundle
    from shared.errors import ConfigError
    from shared.runtime.choose import choose_runtime
    from vision.tagging.files import find_photos, tag_files
    from vision.tagging.predictor import TagPredictor

    found = read_bundle(bundle)
    runtime = choose_runtime(found, device, network=task_of(found.config, only="tagging").network)
    results = tag_files(TagPredictor(found, runtime), find_photos(files), top_k=top_k, min_score=min_score)
    seen = failed = 0
    for result in results:
        seen += 1
        failed += result.error is not None
        if as_json:
            said = {"error": result.error} if result.error else {"tags": [asdict(tag) for tag in result.tags]}
            click.echo(json.dumps({"file": str(result.path), **said}, ensure_ascii=False))
        elif result.error:
            click.echo(f"{result.path}: {result.error}", err=True)
        else:
            tags = ", ".join(f"{tag.label} {tag.score:.2f}" for tag in result.tags)
            click.echo(f"{result.path}  {tags or '(no tag)'}")
    if not seen:
        raise ConfigError(f"no photo was found in {', '.join(map(str, files))}.")
    if failed:
        click.echo(f"{failed} of {seen} files could not be tagged.", err=True)
        raise SystemExit(1)
