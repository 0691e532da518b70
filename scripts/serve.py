"""`percept serve [BUNDLE…]`: starts the service for these bundles."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all addresses.")
@click.option(
    "--port",
    default=3000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 for a free one.",
)
@click.option("--workers", default=None, type=click.IntRange(min=1), help="Processes; one per core if not given.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), help="What to compute on; as in the settings if not given."
)
@click.option("--no-ui", is_flag=True, help="Leave the demo page out.")
def command(
    bundles: tuple[Path, ...], host: str, port: int, workers: int | None, device: str | None, no_ui: bool
) -> None:
    """Serve bundles over HTTP, with a demo page at /ui; the starter models if no BUNDLE is named."""
    from shared.serving.host.server import serve

    serve(list(bundles), host=host, port=port, workers=workers, device=device, ui=False if no_ui else None)
