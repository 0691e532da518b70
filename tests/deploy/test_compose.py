"""deploy/compose.yaml holds to the Compose specification, names what there is, and runs everything as little as it can.

No engine runs it here: it is parsed by an implementation of the specification, and read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from shared.packaging.bento import SERVICES, build_file
from shared.packaging.dockerfile import PORT, SCRATCH, STATE, USER_ID, render_dockerfile
from shared.serving.settings import PREFIX, Settings
from tests.settings import settings_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
OURS = ["vision", "nlp"]


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


def test_it_holds_to_the_specification():
    parsed = PyCompose.from_json(json.dumps(FILLED))
    parsed.validate()
    assert set(parsed.service_names()) == {*OURS, "prometheus", "grafana"}


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
    assert service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not re.search(r":latest$|:$", service["image"]) or name in OURS


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
    assert targets == [f"{name}:{PORT}" for name in OURS]
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
