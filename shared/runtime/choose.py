"""Which runtime computes a bundle: on the device that was asked for, or the best one there is. Logs which and why."""

from __future__ import annotations

import ctypes
import logging
import sys
from importlib.util import find_spec
from typing import Literal, get_args

from shared.bundle.layout import WEIGHTS
from shared.bundle.read import Bundle
from shared.errors import ConfigError, RuntimeUnavailable
from shared.runtime.protocol import Runtime
from shared.task import resolve

Device = Literal["auto", "cpu", "cuda"]

_log = logging.getLogger(__name__)


def choose_runtime(bundle: Bundle, device: str = "auto", *, network: str | None = None, threads: int = 1) -> Runtime:
    """Return the runtime for a device.

    Args:
        bundle: what the runtime computes.
        device: "cpu" and "cuda" are obeyed or refused; "auto" takes CUDA where torch sees a GPU, else the CPU.
        network: `Task.network`, imported only when torch computes; without it there is no CUDA.
        threads: threads of one call on the CPU.

    Raises:
        RuntimeUnavailable: "cuda" was asked for and is not available; says what is.
        BundleError: the bundle lacks the file that the runtime needs.
        ConfigError: there is no such device.
    """
    import onnxruntime  # the process that starts the workers needs neither this nor its 14 MB

    from shared.runtime.cpu import OnnxRuntime

    if device not in get_args(Device):
        raise ConfigError(f"device must be one of {', '.join(get_args(Device))}; came {device!r}.")
    obstacle = "the CPU was asked for" if device == "cpu" else _cuda_obstacle(bundle, network)
    if device == "cuda" and obstacle:
        raise RuntimeUnavailable(
            f"device cuda was asked for, but {obstacle}. Available is: cpu (ONNX Runtime {onnxruntime.__version__}). "
            "Use device cpu or auto, or make sure that torch (pip install 'percept[gpu]') sees a GPU."
        )
    if obstacle or network is None:
        runtime: Runtime = OnnxRuntime(bundle, threads)
        reason = obstacle
    else:
        from shared.runtime.cuda import TorchRuntime

        runtime = TorchRuntime(bundle, resolve(network), "cuda")
        reason = "a GPU is here" if device == "auto" else "CUDA was asked for"
    _log.info("%s %s runs on %s, because %s", bundle.name, bundle.version, runtime.description, reason)
    return runtime


def _cuda_obstacle(bundle: Bundle, network: str | None) -> str | None:
    """Return why CUDA cannot compute this bundle, or None if it can. Imports torch only if there is a GPU."""
    if network is None:
        return "this task names no torch network"
    if WEIGHTS not in bundle.config.files:
        return f"the bundle has no {WEIGHTS}"
    if find_spec("torch") is None:
        return "torch is not installed"
    if not _nvidia_gpus():
        return "there is no NVIDIA GPU with a driver"
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU"
    return None


def has_gpu() -> bool:
    """Return whether there is an NVIDIA GPU and torch to compute on it, without importing torch.

    Importing torch takes seconds and hundreds of megabytes. Source: CUDA Driver API, cuInit and cuDeviceGetCount.
    """
    return find_spec("torch") is not None and _nvidia_gpus() > 0


def _nvidia_gpus() -> int:
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    is_usable = cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if is_usable else 0
