"""The Dockerfile of a bento's image: small, pinned, without root, and able to run on a read-only root file system.

BentoML's own (`bentoml containerize`) installs uv and the newest versions of everything. This one replaces it in the
bento; `docker build -f env/docker/Dockerfile` in the bento's folder makes the image.
"""

from __future__ import annotations

from string import Template

from shared.serving.settings import Settings

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

_TEXT = Template("""\
# Image of a Percept bento for the $device. Build it in the bento's folder:
#   docker build -f $dockerfile -t percept .
# Run it as it is meant to run:
#   docker run --read-only --tmpfs $scratch -v percept-state:$state --cap-drop ALL \\
#     --security-opt no-new-privileges -p $port:$port percept

# Installs in a stage of its own; only the result is kept. All packages are wheels: nothing is compiled.
FROM $base_image AS install
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY env/python/requirements.txt src/constraints.txt /install/
RUN python -m venv --without-pip /opt/venv \\
    && python -m pip --python /opt/venv/bin/python install --only-binary=:all: \\
       --requirement /install/requirements.txt --constraint /install/constraints.txt

FROM $base_image
RUN groupadd --gid $user percept \\
    && useradd --uid $user --gid $user --no-create-home --home-dir $state --shell /usr/sbin/nologin percept \\
    && install --directory --owner=$user --group=$user $state \\
    && python -m pip uninstall --yes --root-user-action=ignore pip setuptools wheel
COPY --from=install /opt/venv /opt/venv
# The code belongs to root, so that the service cannot change it.
COPY . /opt/bento
RUN /opt/venv/bin/python -m compileall -q /opt/bento/src
# One worker per replica, with one thread: scale by replicas. BENTOML_CONTAINERIZED is not set, because with it BentoML
# would not restart a worker: one that is killed is back before a health check misses it.
ENV PATH=/opt/venv/bin:$$PATH \\
    PYTHONDONTWRITEBYTECODE=1 \\
    PYTHONUNBUFFERED=1 \\
    HOME=$state \\
    BENTOML_HOME=$scratch/bentoml \\
    BENTOML_DO_NOT_TRACK=True \\
    GRADIO_TEMP_DIR=$scratch/gradio \\
    OMP_NUM_THREADS=1 \\
    PERCEPT_WORKERS=1 \\
    PERCEPT_DEVICE=$percept_device \\
    PERCEPT_KNOWLEDGE=$state/knowledge.sqlite$gpu_environment
WORKDIR /opt/bento/src
VOLUME ["$state", "$scratch"]
USER $user:$user
EXPOSE $port
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \\
    CMD ["python", "-c", "from http.client import HTTPConnection as H; c = H('127.0.0.1', $port, timeout=2); \
c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "bentoml", "serve", "/opt/bento", "--host", "0.0.0.0", "--port", "$port"]
# As long as shutdown_s of the settings; change both together.
CMD ["--timeout-graceful-shutdown", "$shutdown_s"]
""")
_GPU = " \\\n    NVIDIA_VISIBLE_DEVICES=all \\\n    NVIDIA_DRIVER_CAPABILITIES=compute,utility"


def render_dockerfile(*, gpu: bool, base_image: str | None = None) -> str:
    """Return the Dockerfile of a bento.

    Args:
        gpu: whether the bento has torch, whose wheels contain the CUDA libraries. The driver comes from the host,
            through the NVIDIA container toolkit.
        base_image: a Debian or Ubuntu with the same Python; None for `BASE_IMAGE`.
    """
    return _TEXT.substitute(
        base_image=base_image or BASE_IMAGE,
        device="GPU" if gpu else "CPU",
        dockerfile=DOCKERFILE,
        gpu_environment=_GPU if gpu else "",
        percept_device="cuda" if gpu else "cpu",
        port=PORT,
        scratch=SCRATCH,
        shutdown_s=Settings.model_fields["shutdown_s"].default,
        state=STATE,
        user=USER_ID,
    )
