"""`percept serve`: starts the BentoML server of a bundle's service, and says where it answers once it does."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from shared.bundle.read import read_bundle
from shared.errors import ConfigError
from shared.project import CODE_ROOT, IS_INSTALLED
from shared.serving.observe.logs import configure_logs
from shared.serving.settings import CONFIG_FILE, HELPER_OF, PREFIX, SETTING_OF, read_settings

SERVICES = {
    "vision.service:Vision": {"tagging"},
    "nlp.service:Language": {"intent", "qa"},
    "service:Percept": set(SETTING_OF),
}
"""Service -> the tasks that it serves. The first one that serves all the given bundles is started."""
_log = logging.getLogger(__name__)
_READY_TIMEOUT_S = 120.0
_ASK_TIMEOUT_S = 2.0


def serve(
    bundles: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    workers: int | None = None,
    device: str | None = None,
    ui: bool | None = None,
) -> None:
    """Serve until the process is told to stop; it ends with status 2 if no worker can start.

    Args:
        bundles: of different tasks; none for all that the settings name, by default the starters.
        host: address to listen on.
        port: 0 for a free one.
        workers: processes; None for one per core, or one on a GPU.
        device: "auto", "cpu" or "cuda"; None for what the environment or the settings file says.
        ui: whether the demo page is served; None as above.

    Raises:
        BundleError: a bundle is missing or broken.
        ConfigError: two bundles of one task, or a wrong setting.
    """
    target, paths = _choose(bundles)
    host = "127.0.0.1" if host == "localhost" else host
    port = port or free_port(host)
    _check_port(host, port)
    chosen = {**paths, "device": device, "workers": workers, "ui": ui, "records": _records(), "shadow": _shadow()}
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items() if value is not None})
    settings = read_settings()
    # BentoML empties the folder of its metrics at every start, so each server has a temporary home of its own.
    with tempfile.TemporaryDirectory(prefix="percept-") as home:
        os.environ["BENTOML_HOME"] = home
        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        if os.environ.get(CONFIG_FILE):  # read again by the workers, from another folder
            os.environ[CONFIG_FILE] = str(Path(os.environ[CONFIG_FILE]).resolve())
        os.chdir(CODE_ROOT)
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host  # noqa: S104 a comparison
        threading.Thread(target=_announce, args=(f"http://{shown}:{port}", settings.ui), daemon=True).start()
        from shared.serving.host.carrier import start_server  # BentoML reads its home when it is imported

        start_server(target, CODE_ROOT, host=host, port=port, shutdown_s=settings.shutdown_s)


def _choose(bundles: Sequence[Path]) -> tuple[str, dict[str, Path | str]]:
    """Return the service, and the settings that name paths, made absolute: the server works in another folder."""
    settings = read_settings()
    paths: dict[str, Path | str] = dict.fromkeys(SETTING_OF.values(), "none")
    paths |= {name: path.resolve() if (path := settings.bundle(name)) else "none" for name in HELPER_OF.values()}
    tasks: set[str] = set()
    named = list(bundles) or [path for name in SETTING_OF.values() if (path := settings.bundle(name))]
    for path in named:
        task = read_bundle(path).config.task
        if task in HELPER_OF:
            paths[HELPER_OF[task]] = path.resolve()
            continue
        if task not in SETTING_OF:
            raise ConfigError(f"{path} is for the task {task!r}; there are services for {', '.join(SETTING_OF)}.")
        if task in tasks:
            raise ConfigError(f"two bundles are for the task {task!r}; a server takes one per task. Start two servers.")
        tasks.add(task)
        paths[SETTING_OF[task]] = path.absolute()  # a link stays a link: it may be followed
    if not tasks:
        starters = (
            " The starter models are in a checkout of Percept, not in the installed package." if IS_INSTALLED else ""
        )
        raise ConfigError(f"there is no bundle to serve.{starters} Name one: percept serve BUNDLE…")
    paths |= {name: path.resolve() for name, path in settings if name not in paths and isinstance(path, Path)}
    if not bundles:
        return "service:Percept", paths
    return next(target for target, answered in SERVICES.items() if tasks <= answered), paths


def _records() -> str | None:
    """Return the URL of the store of records, with an absolute path: as `_choose` makes those of bundles."""
    records = read_settings().records
    return records.get_secret_value() if records is not None else None


def _shadow() -> str | None:
    """Return the folders of the candidates as one variable, made absolute likewise; a link stays a link."""
    return ",".join(str(path.absolute()) for path in read_settings().shadow) or None


def free_port(host: str) -> int:
    """Return a port of an address that nobody listens on."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _check_port(host: str, port: int) -> None:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error.strerror}. Choose another with --host or --port."
            ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _announce(url: str, has_page: bool) -> None:
    """Wait for the first worker and print where it answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy between us and ourselves
    end = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < end:
        try:
            with direct.open(f"{url}/readyz", timeout=_ASK_TIMEOUT_S) as answer:
                model = answer.headers.get("x-model-name", "")
        except OSError:
            time.sleep(0.1)
            continue
        page = f"page {url}/ui  " if has_page and find_spec("gradio") else ""
        said = f"Percept serves {model}: {page}docs {url}/docs  metrics {url}/metrics"
        if sys.stdout.isatty():
            print(f"{said}  (Ctrl+C stops)", flush=True)
        else:  # among the workers' lines
            configure_logs()
            _log.info(said)
        return
