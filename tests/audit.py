"""`make audit`: what an installation of Percept holds, as an SBOM, and whether anybody knows harm of it.

For the core alone (CPU serving) and with the demo's extra: a CycloneDX document of all that comes with it, with
versions and licences, and pip-audit's word on each. The SBOMs need no network; pip-audit asks a vulnerability service.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import click
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
INSTALLS = {"core": "", "demo": "demo"}
"""Name of an installation -> the extra that is asked for."""


def versions(extra: str) -> dict[str, str]:
    """Return name -> version of all that `pip install percept[extra]` installs here, Percept itself left out.

    Raises:
        click.ClickException: something of it is not installed here.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = _named(lines, "")
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            installed = distribution(name)
        except PackageNotFoundError as error:
            raise click.ClickException(f"{name} is not installed here. Run: make test, or pip install it.") from error
        found[name] = installed.version
        waiting += _named(installed.requires or (), wanted)
    return dict(sorted(found.items()))


def _named(lines: Iterable[str], extra: str) -> list[tuple[str, str]]:
    """Return name and extra of each requirement that holds here."""
    requirements = [Requirement(line) for line in lines]
    wanted = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": extra})]
    return [(normalised(each.name), part) for each in wanted for part in ("", *each.extras)]


def normalised(name: str) -> str:
    """Return a distribution's name as registries compare it; source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sboms() -> dict[str, dict[str, Any]]:
    """Return a CycloneDX document for each installation, from this environment's metadata."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, "--of", "JSON", sys.executable], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(f"cyclonedx-py failed: {done.stderr.strip()[-500:]}")
    whole = json.loads(done.stdout)
    made = {}
    for name, extra in INSTALLS.items():
        wanted = set(versions(extra))
        parts = [part for part in whole["components"] if normalised(part["name"]) in wanted]
        refs = {part["bom-ref"] for part in parts} | {whole["metadata"]["component"]["bom-ref"]}
        edges = [
            each | {"dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in refs]}
            for each in whole.get("dependencies", ())
            if each["ref"] in refs
        ]
        made[name] = whole | {"components": parts, "dependencies": edges}
    return made


def known_harm(pins: dict[str, str]) -> list[dict[str, Any]]:
    """Return the packages with vulnerabilities that are known, as pip-audit tells them.

    Raises:
        click.ClickException: the service cannot be asked, or does not know all of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--no-deps", "--disable-pip"]
        options = ["--format", "json", "--progress-spinner", "off"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    try:
        asked = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError) as error:
        reason = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise click.ClickException(
            f"pip-audit cannot ask the vulnerability service, so nothing is known: {reason[0][:300]}. "
            "Run it where the network reaches it."
        ) from error
    skipped = [f"{each['name']}: {each['skip_reason']}" for each in asked if "skip_reason" in each]
    unknown = len(skipped) + len(pins) - len(asked)
    if unknown:  # pip-audit itself calls that success
        raise click.ClickException(
            f"the vulnerability service knows nothing of {unknown} of {len(pins)} packages: "
            f"they were not audited ({'; '.join(skipped[:1])[:200]}). Run it where the network reaches it."
        )
    return [each for each in asked if each.get("vulns")]


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/audit"), show_default=True
)
@click.option("--sbom-only", is_flag=True, help="Ask no vulnerability service.")
def main(output: Path, sbom_only: bool) -> None:
    """Write the SBOMs, then ask whether anybody knows harm of what they hold."""
    output.mkdir(parents=True, exist_ok=True)
    for name, document in sboms().items():
        path = output / f"percept-{name}.cdx.json"
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        click.echo(f"{path}: {len(document['components'])} components")
    if sbom_only:
        return
    harmed = known_harm({name: version for extra in INSTALLS.values() for name, version in versions(extra).items()})
    for each in harmed:
        click.echo(f"{each['name']} {each['version']}: {', '.join(vuln['id'] for vuln in each['vulns'])}")
    if harmed:
        raise SystemExit(1)
    click.echo("No vulnerability is known of any of them.")


if __name__ == "__main__":
    main()
