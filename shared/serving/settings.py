"""The settings of a deployment, from environment variables (`PERCEPT_…`) and an optional YAML file.

Every value has one home: recipes are in the YAML for training, decision rules in the bundle, and what differs from
machine to machine here. The environment wins over the file that PERCEPT_CONFIG names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.runtime.choose import Device

PREFIX = "PERCEPT_"
CONFIG_FILE = f"{PREFIX}CONFIG"
START_REPORT = f"{PREFIX}START_REPORT"
"""Variable that names a file, where a worker that cannot start leaves the reason for who started the server."""
BundleSetting = Literal["tagger", "intent", "qa"]
SETTING_OF: dict[str, BundleSetting] = {"tagging": "tagger", "intent": "intent", "qa": "qa"}
"""Task of a bundle -> the setting that names it."""
BundlePath = Literal["none"] | Path
"""A bundle's folder; "none" leaves its part of the service out."""
ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
"""As Pillow calls them. What is not listed here is accepted by no setting: its decoders have too much to attack."""
Public = Literal["ui", "docs", "metrics"]


def _listed(value: Any) -> Any:
    """Return the parts of a variable such as "a,b"; a list of the file stays as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Listed = BeforeValidator(_listed)


class Settings(BaseModel):
    """Every setting of a service. `PERCEPT_MAX_QUEUE=16` in the environment is `max_queue: 16` in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    tagger: BundlePath = PROJECT_ROOT / "models" / "tagger"
    """Bundle of the vision service."""
    intent: BundlePath = PROJECT_ROOT / "models" / "intent"
    """Bundle of the language service that understands utterances."""
    qa: BundlePath = PROJECT_ROOT / "models" / "qa"
    """Bundle of the language service that answers questions."""
    bundles: Path | None = None
    """Folder whose own folders are bundles that may take the place of those that serve, by `PUT /v1/model`."""
    follow_links: bool = False
    """Whether a bundle that is named by a link is replaced when the link leads to another."""
    device: Device = "auto"
    workers: int | None = Field(default=None, ge=1, le=256)
    """Processes that answer; None for one a core, or one where a GPU computes."""
    threads: int = Field(default=1, ge=1, le=256)
    """Threads of one call of the network on the CPU. One worker a core with one thread each beats any other split."""
    decode_threads: int = Field(default=2, ge=1, le=64)
    """Threads of one worker that decode images; Pillow lets other threads run while it decodes."""
    max_batch_size: int | None = Field(default=None, ge=1, le=1024)
    """None for 1 on the CPU, where convolutions gain nothing from batches, and 32 on a GPU."""
    max_queue: int = Field(default=64, ge=1)
    """Images, and questions, that one worker has in hand before it answers 429."""
    max_queued_texts: int = Field(default=1024, ge=1)
    """Utterances that one worker has in hand before it answers 429; one takes about a millisecond."""
    deadline_s: float = Field(default=30.0, gt=0, le=3600)
    """Time that one image or text may take before the answer is 504."""
    max_body_bytes: int = Field(default=32 << 20, ge=1024)
    max_buffered_bytes: int = Field(default=256 << 20, ge=1024)
    """Bytes of all bodies that one worker holds at once, before it answers 429."""
    max_in_flight: int = Field(default=2048, ge=1)
    """Requests of all routes that one worker answers at once, before it answers 429; health and metrics never do."""
    max_head_bytes: int = Field(default=64 << 10, ge=1024)
    """Request line and headers; more is 431."""
    head_timeout_s: float = Field(default=10.0, gt=0, le=3600)
    """Time from the opening of a connection, or the first byte of a later request, until its headers are whole: 408."""
    body_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """Time until a body is whole, and one second more for each 32 KiB of it that came: 408."""
    max_json_depth: int = Field(default=32, ge=2, le=128)
    """Arrays and objects within each other in a JSON body."""
    image_formats: Annotated[list[ImageFormat], Listed] = Field(
        default=["JPEG", "PNG", "WEBP", "GIF", "BMP"], min_length=1
    )
    """What is decoded, the first frame where there are several; `PERCEPT_IMAGE_FORMATS=JPEG,PNG` in the environment."""
    max_pixels: int = Field(default=40_000_000, ge=1)
    max_images: int = Field(default=16, ge=1)
    """Images in one request."""
    max_texts: int = Field(default=64, ge=1)
    """Texts in one request."""
    max_text_chars: int = Field(default=2_000, ge=1)
    """Characters of an utterance or a question."""
    max_context_chars: int = Field(default=100_000, ge=1)
    """Characters of a context that a question is asked about."""
    max_top_k: int = Field(default=1000, ge=1)
    knowledge: Path | None = None
    """File of the knowledge base, made where there is none; None for `knowledge_file` of the user who serves."""
    knowledge_documents: Literal["own", "none"] | Path = "own"
    """What is put into the knowledge base at the start: a folder, or this project's own documentation, or nothing."""
    reranker: Path | None = None
    """Bundle of a sentence encoder, from `percept import-encoder`, that sorts what the knowledge base finds."""
    admin_key: SecretStr | None = None
    """Who sends it may change the knowledge base; without one, and without an admin's key in the file below, nobody."""
    api_keys_file: Path | None = None
    """Keys of `percept key`, of which every request then needs one; None for a service that anybody may ask."""
    public: Annotated[list[Public], Listed] = []
    """What of page, documentation and metrics needs no key where all else needs one."""
    ui: bool = True
    """Whether the Gradio page is served; without Gradio installed there is none."""
    docs: bool = True
    """Whether /docs and /openapi.json are served."""
    metrics: bool = True
    """Whether /metrics is served."""
    cors_origins: Annotated[list[str], Listed] = []
    """Pages whose scripts browsers let ask this service, such as "https://shop.example"; "*" for those of all."""
    root_path: str = Field(default="", pattern=r"^(/[\w.~-]+)*$")
    """Where a proxy shows this service, such as "/percept", whether or not the proxy takes it off the path."""
    log_lines_per_s: float = Field(default=100.0, ge=0)
    """Request lines that one worker logs in a second; above it successes are left out and counted, errors never."""
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Where spans go, by OTLP over HTTP, such as http://collector:4318/v1/traces; None for no tracing."""
    trace_sample_rate: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that are traced, of those that no caller's traceparent decides for."""
    drain_s: float = Field(default=0.0, ge=0, le=600)
    """Time from SIGTERM, when readiness falls, until connections are refused: until a load balancer has seen it."""
    shutdown_s: int = Field(default=30, ge=1, le=3600)
    """Time that requests in flight have to finish after that."""

    def bundle(self, name: BundleSetting) -> Path | None:
        """Return the bundle of that setting, or None where it is "none", or a starter that is not there."""
        path: BundlePath = getattr(self, name)
        if path == "none" or (name not in self.model_fields_set and not path.is_dir()):
            return None
        return path

    @property
    def knowledge_file(self) -> Path:
        """Where the knowledge base lies: as set, or where programs keep what they made for a user.

        Source: XDG Base Directory Specification 0.8, XDG_STATE_HOME.
        """
        if self.knowledge is not None:
            return self.knowledge
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "percept" / "knowledge.sqlite"


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of this process. A variable that is empty counts as not set, as in a compose file.

    Raises:
        ConfigError: the file cannot be read, a name in it is unknown, or a value is wrong; says which one and where it
            stands.
    """
    origins: dict[str, str] = {}
    values: dict[str, Any] = {}
    file = environment.get(CONFIG_FILE)
    if file:
        for name, value in _read_file(Path(file)).items():
            values[name], origins[name] = value, f"{name} in {file}"
    for variable, value in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        # Unknown ones are left alone: beside a Kubernetes service called percept, pods get PERCEPT_PORT and its like.
        if variable.startswith(PREFIX) and name in Settings.model_fields and value:
            values[name], origins[name] = value, variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{origins.get(str(p['loc'][0]), str(p['loc'][0]))}: {p['msg']}" for p in error.errors(include_url=False)
        ]
        raise ConfigError(
            f"the settings are wrong: {'; '.join(problems)}. Known are {', '.join(Settings.model_fields)}."
        ) from error


def settings_or_exit() -> Settings:
    """Return the settings of this process, or end it with one line where they are wrong; for modules of services."""
    try:
        return read_settings()
    except ConfigError as error:
        sys.exit(f"percept: {error}")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} (from {CONFIG_FILE}) cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"the settings file {path} must map names to values, as in `max_queue: 16`.")
    return content
