"""`percept`: the group of subcommands, each imported only when it is called, and how errors are shown.

`percept --help` imports no library but click, and works without the training and demo extras.
"""

from __future__ import annotations

import errno
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import click

from shared.errors import ConfigError, PerceptError

SUBCOMMANDS = {
    "serve": "Serve bundles over HTTP, with a demo page.",
    "predict": "Tag photos, recognise intents, answer questions on the command line.",
    "collect": "Collect files, databases, APIs and web pages into a dataset.",
    "explore": "Look at a dataset: a page, and what seems wrong in it.",
    "discover": "Find groups of what fits no label, for people to name.",
    "clean": "Make a dataset out of another by a plan.",
    "batch": "Process a folder of photos or a table into parquet; continues if interrupted.",
    "info": "Show what is in a bundle or a dataset, and check its files.",
    "fit": "Train or fine-tune a model; the result is a bundle.",
    "tune": "Search for the settings with which a model becomes best.",
    "evaluate": "Measure a bundle on labelled data.",
    "compare": "Compare bundles on the same labelled data: which is better, and can the data tell.",
    "improve": "Make a better model of reviewed records, beginning with the live one.",
    "promote": "Let a better model take the live one's place, if held-out data show that nothing is lost.",
    "registry": "Show a model's versions and who promoted which and why; go back to the one before.",
    "shadow": "Compare what a candidate answered silently with what callers got.",
    "review": "Make a dataset of what reviewers said of a service's answers, here or in Label Studio.",
    "report": "Write a page on a model for people who decide, in English or French.",
    "monitor": "See from records whether what a service is asked has changed, and how good its answers are.",
    "export": "Make model.onnx again, or a copy to serve on a CPU.",
    "package": "Build a bento, test it, and write the Dockerfile of its image.",
    "key": "Make, list and remove the API keys of a service.",
    "openapi": "Write the OpenAPI description of the service.",
    "import-encoder": "Pack a sentence encoder that sorts what the knowledge base finds.",
}
"""Subcommand -> its line in `percept --help`. The module of the same name has the `command`."""

EXTRA_OF = {
    "alembic": "records",
    "datasets": "train",
    "jsonargparse": "train",
    "matplotlib": "train",
    "onnx": "train",
    "onnxscript": "train",
    "optuna": "tune",
    "pytorch_lightning": "train",
    "safetensors": "train",
    "torch": "train",
    "torchmetrics": "train",
    "torchvision": "train",
    "transformers": "train",
    "gradio": "demo",
    "protego": "collect",
    "scipy": "explore",
    "sklearn": "explore",
    "sqlalchemy": "collect",
    "pyarrow": "batch",
    "python_calamine": "batch",
    "tqdm": "batch",
    "ray": "ray",
    "wordfreq": "multilingual",
}
"""Missing module -> the extra that installs it."""
EXIT_USAGE = 2
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAID_OF_A_FULL_DISK = ("No space left on device", "PytorchStreamWriter failed writing")
"""In messages of libraries that raise no OSError: safetensors and torch."""


class LazyGroup(click.Group):
    """Imports a subcommand when it is called, and turns expected errors into one line and exit status 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        return cast("click.Command", import_module(f"scripts.{cmd_name.replace('-', '_')}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PerceptError as error:
            click.echo(f"percept: {error}", err=True)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in EXTRA_OF:
                raise
            click.echo(
                f"percept: this command needs {missing}, which is not installed. "
                f"Run: pip install 'percept[{EXTRA_OF[missing]}]'",
                err=True,
            )
        except Exception as error:
            if not is_full_disk(error):
                raise
            click.echo(
                "percept: nothing more can be written: the disk is full, or over a quota. What was finished before is "
                "kept. Make room, and run the command again.",
                err=True,
            )
        return ctx.exit(EXIT_USAGE)


def is_full_disk(error: BaseException) -> bool:
    """Return whether an error, or one that it came from, is that a disk is full or a file as large as it may become.

    >>> is_full_disk(OSError(errno.ENOSPC, "No space left on device")), is_full_disk(OSError(errno.EIO, "broken"))
    (True, False)
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if any(words in str(seen) for words in _SAID_OF_A_FULL_DISK):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _version() -> str:
    try:
        return version("percept")
    except PackageNotFoundError:
        return "unknown (a checkout that is not installed)"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="percept")
def main() -> None:
    """Train, measure and serve calibrated models as REST microservices."""
    if platform.system() == "Windows":
        raise ConfigError("Percept runs on Linux and macOS. On Windows, install it in the Windows Subsystem for Linux.")


if __name__ == "__main__":
    main()
