"""`percept serve`: starts the BentoML server of a bundle's service, and says where it answers once it does."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from shared.bundle.read import read_bundle
from shared.errors import ConfigError, PerceptError
from shared.serving.settings import CONFIG_FILE, PREFIX, PROJECT_ROOT, START_REPORT, read_settings

SERVICES = {"tagging": ("vision.service:Vision", "tagger")}
"""Task of a bundle -> its service and the setting that names its bundle."""
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
        bundles: one bundle; none for the starter tagger.
        host: address to listen on.
        port: 0 for a free one.
        workers: processes; None for one a core, or one on a GPU.
        device: "auto", "cpu" or "cuda"; None for what environment or settings file say.
        ui: whether the demo page is served; None as above.

    Raises:
        BundleError: a bundle is missing or broken.
        ConfigError: more bundles than there are services for, or a wrong setting.
        PerceptError: no worker could start, such as on a device that is not here.
    """
    target, setting, path = _choose(bundles)
    host = "127.0.0.1" if host == "localhost" else host
    port = port or _free_port(host)
    _check_port(host, port)
    chosen = {setting: path, "device": device, "workers": workers, "ui": ui}
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items() if value is not None})
    settings = read_settings()
    # BentoML empties the folder of its metrics at every start: each server has a home of its own, gone with it.
    with tempfile.TemporaryDirectory(prefix="percept-") as home:
        report = Path(home) / "cannot_start"
        os.environ.update({"BENTOML_HOME": home, START_REPORT: str(report)})
        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        if os.environ.get(CONFIG_FILE):  # read again by the workers, from another folder
            os.environ[CONFIG_FILE] = str(Path(os.environ[CONFIG_FILE]).resolve())
        os.chdir(PROJECT_ROOT)
        from shared.serving.bento import start_server  # BentoML reads its home when it is imported

        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host  # noqa: S104 a comparison
        reasons: list[str] = []
        watched = (f"http://{shown}:{port}", settings.ui, report, reasons)
        threading.Thread(target=_announce, args=watched, daemon=True).start()
        start_server(target, PROJECT_ROOT, host=host, port=port, shutdown_s=settings.shutdown_s)
    if reasons:
        raise PerceptError(reasons[0])


def _choose(bundles: Sequence[Path]) -> tuple[str, str, Path]:
    """Return the service, the setting of its bundle and the bundle's path."""
    if len(bundles) > 1:
        raise ConfigError(f"{len(bundles)} bundles came; one server answers for one. Start one server each.")
    path = Path(bundles[0] if bundles else read_settings().tagger).resolve()
    task = read_bundle(path).config.task
    if task not in SERVICES:
        raise ConfigError(f"{path} is a bundle of the task {task!r}; there are services for {', '.join(SERVICES)}.")
    target, setting = SERVICES[task]
    return target, setting, path


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
