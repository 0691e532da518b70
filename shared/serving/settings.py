"""The settings of a deployment, from environment variables (`PERCEPT_…`) and an optional YAML file.

Every value has one home: recipes are in the YAML for training, decision rules in the bundle, and what differs from
machine to machine here. The environment wins over the file that PERCEPT_CONFIG names.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.records.record import Level
from shared.runtime.choose import Device

PREFIX = "PERCEPT_"
_ALMOST = 0.85
"""Likeness of two names, as difflib counts it."""
_OF_KUBERNETES = re.compile(rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")
CONFIG_FILE = f"{PREFIX}CONFIG"
_SQLITE = "sqlite:///"
_POSTGRESQL = re.compile(r"postgresql(\+psycopg)?://[^/?#\s]*/[^/?#\s]+(\?|$)")
BundleSetting = Literal["tagger", "intent", "qa", "encoder", "writer"]
SETTING_OF: dict[str, BundleSetting] = {"tagging": "tagger", "intent": "intent", "qa": "qa"}
"""Task that a service answers -> the setting of its bundle."""
HELPER_OF: dict[str, BundleSetting] = {"embedding": "encoder", "answer-writer": "writer"}
"""Task of a bundle that answers nothing itself, but helps another -> its setting."""
BundlePath = Literal["none"] | Path
"""A bundle's folder; "none" leaves its part of the service out."""
ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
"""Pillow's names. No setting accepts any other format: those decoders offer too much to attack."""
Public = Literal["ui", "docs", "metrics"]
BuiltIn = Literal["number", "date", "time", "duration", "money", "email", "phone", "url"]
"""What the language service extracts with rules."""


def _split(value: Any) -> Any:
    """Return the parts of a variable such as "a,b"; a list from the file stays as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaSeparated = BeforeValidator(_split)


class Settings(BaseSettings):
    """Every setting of a service. `PERCEPT_MAX_QUEUE=16` in the environment is `max_queue: 16` in the file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_default=True
    )

    tagger: BundlePath = PROJECT_ROOT / "models" / "tagger"
    """Bundle of the vision service."""
    intent: BundlePath = PROJECT_ROOT / "models" / "intent"
    """Bundle with which the language service recognises intents."""
    qa: BundlePath = PROJECT_ROOT / "models" / "qa"
    """Bundle with which the language service answers questions."""
    encoder: BundlePath = PROJECT_ROOT / "models" / "encoder"
    """Bundle of a sentence encoder, from `percept import-encoder` or `percept fit embedding`: finds in the knowledge
    base what means the same."""
    writer: BundlePath = PROJECT_ROOT / "models" / "writer"
    """Bundle of a writer, from `percept fit answer-writer`: makes sentences of answers, where they are asked for."""
    bundles: Path | None = None
    """Folder of bundles that `PUT /v1/model` may put in place of those that serve."""
    follow_links: bool = False
    """If a bundle is named by a link, whether changing the link replaces the bundle."""
    device: Device = "auto"
    workers: int | None = Field(default=None, ge=1, le=256)
    """Processes that answer; None for one per core, or a single one on a GPU."""
    threads: int = Field(default=1, ge=1, le=256)
    """Threads of one call of the network on the CPU. One worker per core with one thread each beats any other split."""
    decode_threads: int = Field(default=2, ge=1, le=64)
    """Threads per worker that decode images; Pillow lets other threads run while it decodes."""
    max_batch_size: int | None = Field(default=None, ge=1, le=1024)
    """None for 1 on the CPU, where convolutions gain nothing from batches, and 32 on a GPU."""
    max_queue: int = Field(default=64, ge=1)
    """Images, and questions, that one worker takes on before it answers 429."""
    max_queued_texts: int = Field(default=1024, ge=1)
    """Utterances that one worker takes on before it answers 429; one takes about a millisecond."""
    deadline_s: float = Field(default=30.0, gt=0, le=3600)
    """Time that one image or text may take before the answer is 504."""
    max_body_bytes: int = Field(default=32 << 20, ge=1024)
    max_buffered_bytes: int = Field(default=256 << 20, ge=1024)
    """Bytes of all bodies together that one worker holds before it answers 429."""
    max_in_flight: int = Field(default=2048, ge=1)
    """Requests that one worker answers at once before it answers 429; health and metrics are always answered."""
    max_head_bytes: int = Field(default=32 << 10, ge=1024)
    """Request line and headers, and also trailers and the framing of chunks; more is 431."""
    head_timeout_s: float = Field(default=10.0, gt=0, le=3600)
    """Time from opening a connection, or from the first byte of a later request, until its head is complete: 408."""
    body_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """Time until a body is complete, plus one second for each 32 KiB received: 408. Also the time after which a client
    that takes nothing of its answer is cut off, on Linux."""
    image_formats: Annotated[list[ImageFormat], NoDecode, CommaSeparated] = Field(
        default=["JPEG", "PNG", "WEBP", "GIF", "BMP"], min_length=1
    )
    """Formats that are decoded, only the first frame if there are several; a variable is `JPEG,PNG`."""
    max_pixels: int = Field(default=40_000_000, ge=1)
    max_images: int = Field(default=16, ge=1)
    """Images in one request."""
    max_texts: int = Field(default=64, ge=1)
    """Texts in one request."""
    max_text_chars: int = Field(default=2_000, ge=1)
    """Characters of an utterance or a question."""
    max_context_chars: int = Field(default=25_000, ge=1)
    """Characters of the context of a question."""
    max_top_k: int = Field(default=1000, ge=1)
    extractors: Annotated[list[BuiltIn], NoDecode, CommaSeparated] = []
    """What rules extract from texts besides what the intent model finds; a variable is `date,time,money`."""
    extractor_languages: Annotated[list[Literal["en", "fr"]], NoDecode, CommaSeparated] = Field(
        default=["en", "fr"], min_length=1
    )
    """Languages of these rules."""
    time_zone: str = "UTC"
    """IANA's name of the zone in which "tomorrow at 8" is meant, unless a request names another."""
    phone_region: str | None = Field(default=None, pattern=r"^[A-Z]{2}$")
    """Country of telephone numbers that are written without a country's code, such as "FR"; None finds only others."""
    knowledge: Path | None = None
    """File of the knowledge base, created if missing; None for `knowledge_file` of the user who serves."""
    knowledge_documents: Literal["own", "none"] | Path = "own"
    """What the knowledge base starts with: a folder, this project's own documentation, or nothing."""
    admin_key: SecretStr | None = None
    """Key that may change the knowledge base; without it, and without an admin's key in the file below, nobody may."""
    api_keys_file: Path | None = None
    """Keys from `percept key`, one of which every request then needs; None for a service that is open to anybody."""
    public: Annotated[list[Public], NoDecode, CommaSeparated] = []
    """Which of page, documentation and metrics need no key even if everything else does."""
    ui: bool = True
    """Whether the Gradio page is served; without Gradio installed there is none."""
    records: SecretStr | None = None
    """Where answers and feedback are recorded, as SQLAlchemy's URL: sqlite:///records.sqlite, relative to where the
    service is started, or postgresql+psycopg://user:password@host/database. None for nowhere."""
    records_level: Level = "outcomes"
    """What is kept of an answer: outcomes, features (of the network, besides), inputs (texts and photos, besides)."""
    records_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests whose sure answers are kept; all others always are."""
    records_sure_from: float = Field(default=0.9, ge=0, le=1)
    """Confidence from which an answer is sure; one that is out of scope, or no answer, never is."""
    records_days: int | None = Field(default=30, ge=1, le=36_500)
    """Age at which records are deleted; None for never."""
    shadow: Annotated[list[Path], NoDecode, CommaSeparated] = []
    """Bundles that answer silently what a served model of the same name was asked, to be compared; needs `records`."""
    shadow_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the recorded answers that they give, too."""
    docs: bool = True
    """Whether /docs and /openapi.json are served."""
    metrics: bool = True
    """Whether /metrics is served."""
    cors_origins: Annotated[list[str], NoDecode, CommaSeparated] = []
    """Origins whose scripts may call this service from a browser, such as "https://shop.example"; "*" for all."""
    root_path: str = Field(default="", pattern=r"^(/[\w.~-]+)*$")
    """Path under which a proxy shows this service, such as "/percept", whether or not the proxy strips it."""
    log_lines_per_s: float = Field(default=100.0, ge=0)
    """Request lines that one worker logs per second; beyond it successes are left out and counted, errors never."""
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Where spans go, by OTLP over HTTP, such as http://collector:4318/v1/traces; None for no tracing."""
    trace_sample_rate: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that are traced, among those without a traceparent from the caller."""
    drain_s: float = Field(default=0.0, ge=0, le=600)
    """Time from SIGTERM, when readiness falls, until connections are refused: so that a load balancer can notice."""
    shutdown_s: int = Field(default=30, ge=1, le=3600)
    """Time that requests in flight then have to finish."""

    @field_validator("records")
    @classmethod
    def _is_a_store(cls, value: SecretStr | None) -> SecretStr | None:
        """Refuse what is no URL of a store, and make the path of a file absolute: workers start in another folder."""
        if value is None:
            return None
        url = value.get_secret_value()
        if url.startswith(_SQLITE) and url.partition("?")[0] not in (_SQLITE, f"{_SQLITE}:memory:"):
            return SecretStr(_SQLITE + os.path.abspath(url.removeprefix(_SQLITE)))  # noqa: PTH100 keeps what follows
        if not _POSTGRESQL.match(url):
            raise ValueError("expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 passed by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the arguments first, then the environment, then the file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _read_file())

    def bundle(self, name: BundleSetting) -> Path | None:
        """Return the bundle of that setting, or None if it is "none", or is a starter that is not there."""
        path: BundlePath = getattr(self, name)
        if path == "none" or (name not in self.model_fields_set and not path.is_dir()):
            return None
        return path

    @property
    def knowledge_file(self) -> Path:
        """The file of the knowledge base: as set, or where programs keep the state of a user.

        Source: XDG Base Directory Specification 0.8, XDG_STATE_HOME.
        """
        if self.knowledge is not None:
            return self.knowledge
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "percept" / "knowledge.sqlite"


def read_settings() -> Settings:
    """Return the settings of this process. An empty variable counts as unset, as in a compose file.

    Raises:
        ConfigError: the file cannot be read, a name in it is unknown, or a value is wrong; names the variable or file.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [f"{_origin(str(p['loc'][0]))}: {p['msg']}" for p in error.errors(include_url=False)]
        raise ConfigError(
            f"the settings are wrong: {'; '.join(problems)}. Known are {', '.join(Settings.model_fields)}."
        ) from error


def likely_mistyped() -> list[str]:
    """Return a line for each variable that is called almost like one of a setting, and has no effect.

    Others are nobody's business: Kubernetes sets PERCEPT_PORT and the like for a service called percept.
    """
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields] + [CONFIG_FILE]
    lines: list[str] = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known and not _OF_KUBERNETES.fullmatch(name):
            near = difflib.get_close_matches(name, known, n=1, cutoff=_ALMOST)
            lines.extend(f"{name} has no effect; there is a setting {each}" for each in near)
    return lines


def settings_or_exit() -> Settings:
    """Return the settings of this process, or end it with one line if they are wrong; for the modules of services."""
    try:
        return read_settings()
    except ConfigError as error:
        sys.exit(f"percept: {error}")


def _origin(name: str) -> str:
    variable = f"{PREFIX}{name.upper()}"
    return variable if os.environ.get(variable) else f"{name} in {os.environ.get(CONFIG_FILE)}"


def _read_file() -> dict[str, Any]:
    path = os.environ.get(CONFIG_FILE)
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} (from {CONFIG_FILE}) cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"the settings file {path} must map names to values, as in `max_queue: 16`.")
    return content
