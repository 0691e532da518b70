"""Starts the server: `percept serve`, and ending it if its workers cannot start."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from shared.bundle.read import read_bundle
from shared.errors import ConfigError, PerceptError
from shared.project import CODE_ROOT, IS_INSTALLED
from shared.serving.settings import CONFIG_FILE, PREFIX, SETTING_OF, START_REPORT, read_settings

SERVICES = {
    "vision.service:Vision": {"tagging"},
    "nlp.service:Language": {"intent", "qa"},
    "service:Percept": set(SETTING_OF),
}
"""Service -> the tasks that it answers for. The first that answers for all that is asked for is started."""
T = TypeVar("T")
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
    """Serve until the process is told to stop.

    Args:
        bundles: of different tasks; none for all that the settings name, which are the starters.
        host: address to listen on.
        port: 0 for a free one.
        workers: processes; None for one a core, or one on a GPU.
        device: "auto", "cpu" or "cuda"; None for what environment or settings file say.
        ui: whether the demo page is served; None as above.

    Raises:
        BundleError: a bundle is missing or broken.
        ConfigError: two bundles of one task, or a wrong setting.
        PerceptError: no worker could start, such as on a device that is not here.
    """
    target, paths = _choose(bundles)
    host = "127.0.0.1" if host == "localhost" else host
    port = port or _free_port(host)
    _check_port(host, port)
    chosen = {**paths, "device": device, "workers": workers, "ui": ui}
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items() if value is not None})
    settings = read_settings()
    # BentoML empties the folder of its metrics at every start: each server has a home of its own, gone with it.
    with tempfile.TemporaryDirectory(prefix="percept-") as home:
        report = Path(home) / "cannot_start"
        os.environ.update({"BENTOML_HOME": home, START_REPORT: str(report)})
        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        if os.environ.get(CONFIG_FILE):  # read again by the workers, from another folder
            os.environ[CONFIG_FILE] = str(Path(os.environ[CONFIG_FILE]).resolve())
        os.chdir(CODE_ROOT)
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host  # noqa: S104 a comparison
        reasons: list[str] = []
        watched = (f"http://{shown}:{port}", settings.ui, report, reasons)
        threading.Thread(target=_announce, args=watched, daemon=True).start()
        start_server(target, CODE_ROOT, host=host, port=port, shutdown_s=settings.shutdown_s)
    if reasons:
        raise PerceptError(reasons[0])


def _choose(bundles: Sequence[Path]) -> tuple[str, dict[str, Path | str]]:
    """Return the service, and each setting that names a path, whole: the server works in another folder."""
    settings = read_settings()
    paths: dict[str, Path | str] = dict.fromkeys(SETTING_OF.values(), "none")
    tasks: set[str] = set()
    known = ", ".join(SETTING_OF)
    named = list(bundles) or [path for name in SETTING_OF.values() if (path := settings.bundle(name))]
    for path in named:
        task = read_bundle(path).config.task
        if task not in SETTING_OF:
            raise ConfigError(f"{path} is a bundle of the task {task!r}; there are services for {known}.")
        if task in tasks:
            raise ConfigError(f"two bundles of the task {task!r} came; one server answers for one. Start two servers.")
        tasks.add(task)
        paths[SETTING_OF[task]] = path.absolute()  # a link stays one: it may be followed
    if not named:
        starters = (
            " The starter models are in a checkout of Percept, not in the installed package." if IS_INSTALLED else ""
        )
        raise ConfigError(f"there is no bundle to serve.{starters} Name one: percept serve BUNDLE…")
    paths |= {name: path.resolve() for name, path in settings if name not in paths and isinstance(path, Path)}
    if not bundles:
        return "service:Percept", paths
    return next(target for target, answered in SERVICES.items() if tasks <= answered), paths


def _free_port(host: str) -> int:
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


def _announce(url: str, has_page: bool, report: Path, reasons: list[str]) -> None:
    """Wait for the first worker and print where it answers; if it cannot start, stop the server and say the reason.

    Workers that fail later, when the server answered already, are started again for ever, while the others answer.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy stands between us and ourselves
    end = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < end:
        if report.exists():
            reasons.append(report.read_text(encoding="utf-8"))
            os.kill(os.getpid(), signal.SIGTERM)
            return
        try:
            with direct.open(f"{url}/readyz", timeout=_ASK_TIMEOUT_S) as answer:
                model = answer.headers.get("x-model-name", "")
        except OSError:
            time.sleep(0.1)
            continue
        page = f"page {url}/ui  " if has_page and find_spec("gradio") else ""
        print(f"Percept serves {model}: {page}docs {url}/docs  metrics {url}/metrics  (Ctrl+C stops)", flush=True)
        return


LOOK_EVERY_S = 1.0
_FAILED = 2


def watch_the_start() -> None:
    """Begin to look; called in the process that starts the workers, before it does."""
    if os.environ.get(START_REPORT):
        return
    report = Path(tempfile.mkdtemp(prefix="percept-start-")) / "cannot_start"
    os.environ[START_REPORT] = str(report)  # the workers inherit it
    atexit.register(_end, report)
    threading.Thread(target=_look, args=(report,), name="start-watch", daemon=True).start()


def _look(report: Path) -> None:
    while not report.exists():
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _end(report: Path) -> None:
    reason = report.read_text(encoding="utf-8") if report.exists() else None
    shutil.rmtree(report.parent, ignore_errors=True)
    if reason is not None:
        sys.stdout.flush()
        print(f"percept: {reason}", file=sys.stderr, flush=True)
        os._exit(_FAILED)  # the server thinks that it ended in peace


def before_start(check: Callable[[], object]) -> None:
    """Have something checked before any worker starts, and see to it that a server without a worker ends."""
    or_exit(check)
    watch_the_start()


def or_exit(check: Callable[[], T]) -> T:
    """Return what a check gives, and end the process with one line where it fails for a reason that we know."""
    try:
        return check()
    except PerceptError as error:
        sys.exit(f"percept: {error}")


def start_server(target: str, folder: Path, *, host: str, port: int, shutdown_s: int) -> None:
    """Serve "package.module:name" with BentoML until a signal comes; BENTOML_HOME is set before.

    Args:
        target: the service.
        folder: the working directory of the server, which its workers import from.
        host: an IP address.
        port: not 0.
        shutdown_s: time for requests in flight when the server is told to stop.
    """
    import bentoml  # reads its home when it is imported
    from _bentoml_impl.server.serving import serve_http
    from bentoml._internal.log import configure_logging

    configure_logging()  # type: ignore[no-untyped-call]
    logging.getLogger("bentoml").setLevel(logging.WARNING)
    sys.path.insert(0, str(folder))
    service: Any = bentoml.load(target, working_dir=str(folder))
    service.inject_config()
    serve_http(target, working_dir=str(folder), host=host, port=port, timeout_graceful_shutdown=shutdown_s)
