"""The Dockerfile of a bento's image: small, pinned, without root, and able to run on a read-only root file system.

BentoML's own (`bentoml containerize`) installs uv and the newest versions of everything. This one replaces it in the
bento; `docker build -f env/docker/Dockerfile` in the bento's folder makes the image.
"""

from __future__ import annotations

from shared.serving.settings import Settings
from shared.templates import templates

DOCKERFILE = "env/docker/Dockerfile"
"""Path in a bento."""
BASE_IMAGE = "python:3.11.14-slim-bookworm"
"""The Python that constraints.txt was tested with. Name the image by its digest to get the same bytes each time."""
USER_ID = 10001
"""Above the ids of a distribution's own users, so that nobody on the host has it."""
PORT = 3000
STATE = "/var/lib/percept"
"""For what outlives a container: the knowledge base."""
SCRATCH = "/tmp"  # noqa: S108 a place in the image
"""For what does not: BentoML's home, uploads in transit."""


def render_dockerfile(*, gpu: bool, base_image: str | None = None) -> str:
    """Return the Dockerfile of a bento.

    Args:
        gpu: whether the bento has torch, whose wheels contain the CUDA libraries. The driver comes from the host,
            through the NVIDIA container toolkit.
        base_image: a Debian or Ubuntu with the same Python; None for `BASE_IMAGE`.
    """
    template = templates("shared.packaging").get_template("Dockerfile")
    text = template.render(
        gpu=gpu,
        base_image=base_image or BASE_IMAGE,
        dockerfile=DOCKERFILE,
        port=PORT,
        scratch=SCRATCH,
        shutdown_s=Settings.model_fields["shutdown_s"].default,
        state=STATE,
        user=USER_ID,
    )
    return text + "\n"
