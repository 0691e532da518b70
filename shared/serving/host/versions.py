"""What serving uses of other projects' private internals, and the versions for which we know it to work.

They are all in this room. With a version outside of these bounds they stay away, with one warning, and the service
runs on what the project itself brings. pyproject.toml has the same bounds.

| project | what is used | what it buys |
| --- | --- | --- |
| BentoML | `ServiceAppFactory`: its layers, system routes and index page are left out, and errors have our shape | \
half of its time per request: OpenTelemetry alone takes 18 %, the access log 20 % |
| circus, in BentoML | the addresses in `Arbiter.__init__` | no port on which any local user can run commands |
| uvicorn | `HttpToolsProtocol` with its `cycle`, `pipeline` and `flow` | limits for heads, trailers, chunks; bodies \
behind an upgrade; work for gone clients that stops; early answers that arrive; 0.2 ms of a photo of one megapixel |
| uvicorn | `HTTP_PROTOCOLS` and `LOOP_FACTORIES` | BentoML has no setting for either |
| prometheus_client | `MmapedDict` | a full disk does not kill workers |
"""

from __future__ import annotations

import logging
from importlib.metadata import version

from packaging.specifiers import SpecifierSet

KNOWN_VERSIONS = {"bentoml": ">=1.4.39,<1.5", "prometheus-client": ">=0.20,<0.27", "uvicorn": ">=0.36,<0.55"}
_log = logging.getLogger(__name__)


def is_known(project: str) -> bool:
    """Return whether the installed version is within the bounds; otherwise also say so in the log."""
    installed, known = version(project), KNOWN_VERSIONS[project]
    if installed in SpecifierSet(known):
        return True
    _log.warning("%s %s is not a version that we know (%s): it runs unchanged", project, installed, known)
    return False
