"""`bentoml build`, in a process of its own, on the folder that `plan` lays out; then the image's recipe beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError, PerceptError
from shared.packaging.dockerfile import DOCKERFILE, render_dockerfile
from shared.packaging.plan import Plan, lay_out
from shared.serving.settings import PREFIX

_SHOWN = 1500


@dataclass(frozen=True)
class Bento:
    """What was built."""

    tag: str
    path: Path
    """Its folder in the store."""


def build(plan: Plan, *, version: str | None = None, base_image: str | None = None) -> Bento:
    """Return the bento of a plan, in BentoML's store.

    Args:
        plan: what goes in.
        version: of the bento; None for one that BentoML makes.
        base_image: of the image, as for `render_dockerfile`.

    Raises:
        ConfigError: the version is there already, or is none that BentoML takes.
        PerceptError: BentoML cannot build.
    """
    import bentoml
    from bentoml.exceptions import BentoMLException, NotFound

    if version is not None:
        wanted = f"{plan.build_options['name']}:{version}"
        try:
            bentoml.bentos.get(wanted)
        except NotFound:
            pass
        except (BentoMLException, ValueError) as error:
            raise ConfigError(f"BentoML takes no bento {wanted}: {error}") from error
        else:
            raise ConfigError(f"there is a bento {wanted} already. Choose another --version.")
    with tempfile.TemporaryDirectory(prefix="percept-package-") as name:
        folder = Path(name) / "project"
        folder.mkdir()
        lay_out(plan, folder)
        command = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
        command += ["--version", version] if version else []
        result = subprocess.run(  # noqa: S603 our own command
            [*command, "."], cwd=folder, env=_environment(Path(name)), capture_output=True, text=True, check=False
        )
    if result.returncode:
        said = (result.stderr or result.stdout).strip()[-_SHOWN:]
        raise PerceptError(f"bentoml build failed with {result.returncode}: {said}")
    tag = result.stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    path = Path(bentoml.bentos.get(tag).path)
    (path / DOCKERFILE).write_text(render_dockerfile(gpu=plan.gpu, base_image=base_image), encoding="utf-8")
    return Bento(tag, path)


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment without settings of whoever builds, and with a `uv` that does nothing.

    BentoML 1.4 looks for uv before it asks whether versions are to be locked, which they are not (constraints.txt has
    them), and would install it.
    """
    uv = folder / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\nexit 1\n")
    uv.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    path = f"{uv.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "BENTOML_DO_NOT_TRACK": "True"}
