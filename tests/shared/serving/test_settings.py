"""Settings come from the environment and one file, and a wrong one is named where it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.serving.settings import Settings, likely_mistyped
from tests.settings import settings_of

SERVE_CONFIGS = sorted((PROJECT_ROOT / "configs" / "serve").glob("*.yaml"))


def write(path: Path, text: str) -> dict[str, str]:
    """Return the environment that names a settings file with this text."""
    path.write_text(text)
    return {"PERCEPT_CONFIG": str(path)}


def test_an_empty_environment_gives_the_defaults():
    settings = settings_of({})
    assert settings == Settings()
    assert settings.tagger == PROJECT_ROOT / "models" / "tagger"
    assert (settings.workers, settings.device, settings.ui) == (None, "auto", True)


def test_variables_are_read_as_the_type_of_their_setting():
    settings = settings_of(
        {
            "PERCEPT_TAGGER": "some/bundle",
            "PERCEPT_WORKERS": "3",
            "PERCEPT_DEADLINE_S": "2.5",
            "PERCEPT_UI": "false",
            "HOME": "elsewhere",
        }
    )
    assert settings.tagger == Path("some/bundle")
    assert (settings.workers, settings.deadline_s, settings.ui) == (3, 2.5, False)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_an_empty_variable_counts_as_not_set(tmp_path: Path, name: str):
    assert settings_of({f"PERCEPT_{name.upper()}": ""}) == Settings()
    environment = write(tmp_path / "local.yaml", "max_queue: 16\n")
    assert settings_of(environment | {"PERCEPT_MAX_QUEUE": ""}).max_queue == 16


def test_the_environment_wins_over_the_file(tmp_path: Path):
    environment = write(tmp_path / "local.yaml", "max_queue: 16\nmax_images: 2\n")
    settings = settings_of(environment | {"PERCEPT_MAX_QUEUE": "8"})
    assert (settings.max_queue, settings.max_images) == (8, 2)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n"])
def test_an_empty_file_gives_the_defaults(tmp_path: Path, text: str):
    assert settings_of(write(tmp_path / "empty.yaml", text)) == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("PERCEPT_MAX_QUEUE", "0", "Input should be greater than or equal to 1"),
        ("PERCEPT_MAX_QUEUE", "many", "Input should be a valid integer"),
        ("PERCEPT_DEVICE", "tpu", "Input should be 'auto', 'cpu' or 'cuda'"),
        ("PERCEPT_DEADLINE_S", "nan", "Input should be less than or equal to 3600"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(variable: str, value: str, problem: str):
    with pytest.raises(ConfigError) as caught:
        settings_of({variable: value})
    assert f"{variable}: {problem}" in str(caught.value)


def test_a_wrong_value_in_the_file_is_named_with_the_file(tmp_path: Path):
    environment = write(tmp_path / "local.yaml", "max_queue: -1\n")
    with pytest.raises(ConfigError, match=r"max_queue in \S+local\.yaml: Input should be greater than or equal to 1"):
        settings_of(environment)


def test_an_unknown_name_in_the_file_is_refused_and_the_known_ones_are_listed(tmp_path: Path):
    environment = write(tmp_path / "local.yaml", "max_queu: 16\n")
    with pytest.raises(ConfigError, match=r"max_queu in \S+local\.yaml: .*Known are tagger, .*max_queue"):
        settings_of(environment)


def test_variables_that_kubernetes_sets_beside_a_service_called_percept_do_no_harm():
    assert settings_of({"PERCEPT_PORT": "tcp://10.0.0.1:80", "PERCEPT_SERVICE_HOST": "10.0.0.1"}) == Settings()


@pytest.mark.parametrize("text", ["- a list\n", "just words\n", "7: a number for a name\n"])
def test_a_file_that_maps_no_names_to_values_is_refused(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match="must map names to values"):
        settings_of(write(tmp_path / "local.yaml", text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    for environment in (write(tmp_path / "local.yaml", "{"), {"PERCEPT_CONFIG": str(tmp_path / "missing.yaml")}):
        with pytest.raises(ConfigError, match=r"settings file \S+ \(from PERCEPT_CONFIG\) cannot be read"):
            settings_of(environment)


def test_there_is_a_settings_file_to_start_from():
    assert [path.name for path in SERVE_CONFIGS] == ["local.yaml"]


@pytest.mark.parametrize("path", SERVE_CONFIGS, ids=lambda path: path.name)
def test_each_settings_file_of_the_project_is_read(path: Path):
    assert isinstance(settings_of({"PERCEPT_CONFIG": str(path)}), Settings)


def test_the_settings_file_to_start_from_shows_every_setting_and_the_defaults():
    text = (PROJECT_ROOT / "configs" / "serve" / "local.yaml").read_text()
    shown = yaml.safe_load("\n".join(re.findall(r"^# (\w+: \S+)$", text, re.MULTILINE)))
    set_here = yaml.safe_load(text)
    assert sorted([*shown, *set_here]) == sorted(Settings.model_fields)
    defaults = Settings().model_dump() | {
        name: f"models/{name}" for name in ("tagger", "intent", "qa", "encoder", "writer")
    }
    assert shown == {name: defaults[name] for name in shown}


def test_every_setting_has_its_row_in_the_documentation():
    text = (PROJECT_ROOT / "docs" / "serving.md").read_text("utf-8").partition("\n## Settings\n")[2]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(Settings.model_fields)


@pytest.mark.parametrize(
    ("given", "read"),
    [("PNG", ["PNG"]), ("JPEG, PNG ,", ["JPEG", "PNG"]), ("JPEG,TIFF", ["JPEG", "TIFF"])],
)
def test_a_list_is_written_with_commas_in_a_variable_and_as_a_list_in_the_file(
    tmp_path: Path, given: str, read: list[str]
):
    assert settings_of({"PERCEPT_IMAGE_FORMATS": given}).image_formats == read
    assert settings_of(write(tmp_path / "local.yaml", yaml.safe_dump({"image_formats": read}))).image_formats == read


@pytest.mark.parametrize("value", ["SVG", "JPEG,PDF", "jpeg", ","])
def test_a_format_that_no_setting_accepts_is_refused(value: str):
    with pytest.raises(ConfigError, match="PERCEPT_IMAGE_FORMATS"):
        settings_of({"PERCEPT_IMAGE_FORMATS": value})


def test_a_variable_that_is_almost_a_setting_is_warned_of_and_those_of_kubernetes_are_not(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("MAX_PIXEL", "WORKER", "DRAIN_SEC"):
        monkeypatch.setenv(f"PERCEPT_{name}", "1")
    for name in (
        "PORT",
        "SERVICE_HOST",
        "SERVICE_PORT_HTTP",
        "PORT_3000_TCP_ADDR",
        "VISION_SERVICE_HOST",
        "TEAM",
        "UI",
    ):
        monkeypatch.setenv(f"PERCEPT_{name}", "1")
    assert likely_mistyped() == [
        "PERCEPT_DRAIN_SEC has no effect; there is a setting PERCEPT_DRAIN_S",
        "PERCEPT_MAX_PIXEL has no effect; there is a setting PERCEPT_MAX_PIXELS",
        "PERCEPT_WORKER has no effect; there is a setting PERCEPT_WORKERS",
    ]
