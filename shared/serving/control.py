"""The control socket of the process that starts the workers, taken off the network.

BentoML 1.4.39 runs its workers under circus, and has circus listen for commands on a TCP port of 127.0.0.1, without a
password: whoever can connect to it (another user of the machine, another container of the pod) can send `add` with a
command line, and it runs as this service. Nothing here sends commands, so that circus listens inside its own process
alone. Until BentoML gives it a socket that only its user can open. Neighbour: `bento` calls it before circus starts.
"""

from __future__ import annotations

import sys
from typing import Any

_MODULE = "bentoml._internal.utils.circus"
CONTROL, EVENTS = "inproc://percept-control", "inproc://percept-events"


def close_control_ports() -> None:
    """Have circus, where this process is the one that runs it, bind no port for commands and none for events.

    Its plugins talk to it over these ports, from processes of their own: with one, which is `bentoml serve --reload`
    for those who develop, they stay.
    """
    circus = sys.modules.get(_MODULE)  # in a worker it is not there, and takes long to import
    if circus is None:
        return
    arbiter: Any = circus.Arbiter
    if getattr(arbiter, "listens_inside", False):
        return
    original = arbiter.__init__

    def init(self: Any, watchers: Any, endpoint: str, pubsub_endpoint: str, **options: Any) -> None:
        if not options.get("plugins"):
            endpoint, pubsub_endpoint = CONTROL, EVENTS
        original(self, watchers, endpoint, pubsub_endpoint, **options)

    arbiter.__init__ = init
    arbiter.listens_inside = True
