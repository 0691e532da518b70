"""The torch runtime: the bundle's network and weights, on CUDA in bf16. The only part of serving that imports torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from shared.bundle.read import Bundle
from shared.errors import BundleError, Overloaded
from shared.runtime.protocol import Tensors, check_inputs

_log = logging.getLogger(__name__)


class TorchRuntime:
    """Computes the network in torch. Safe to call from several threads.

    A batch that does not fit in the device's memory is computed in halves, and so is every later one as large.

    Args:
        bundle: must hold model.safetensors.
        network: builds the network of a bundle with its weights, in eval mode. It takes the signature's inputs by
            position and gives a tensor, a tuple in the signature's order or a mapping by name.
        device: "cuda", or "cpu" to compare with the CPU runtime.
        dtype: None for bfloat16 on CUDA and float32 on the CPU. Batch normalisation stays in float32: its running
            statistics do not survive eight bits.
    """

    def __init__(
        self,
        bundle: Bundle,
        network: Callable[[Bundle], nn.Module],
        device: str = "cuda",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device = device
        self.inputs = bundle.config.signature.inputs
        self.outputs = bundle.config.signature.outputs
        self.dtype = dtype or (torch.bfloat16 if device == "cuda" else torch.float32)
        self._device = torch.device(device)
        model = network(bundle).eval().requires_grad_(False).to(self._device)
        self._network = _cast(model, self.dtype).to(memory_format=torch.channels_last)
        self._most: int | None = None
        """Size of the smallest input that did not fit in memory; None so far all did."""
        where = torch.cuda.get_device_name(self._device) if device == "cuda" else "CPU"
        self.description = f"torch {torch.__version__} {str(self.dtype).removeprefix('torch.')} on {where}"

    def run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Return the outputs by name, as float32 where the network uses a smaller type.

        Raises:
            InputError: an input does not have the name, dtype or shape of the signature.
            Overloaded: a single row does not fit in the device's memory.
        """
        check_inputs(self.inputs, inputs)
        return self._run(inputs)

    def _run(self, inputs: Tensors) -> dict[str, np.ndarray]:
        rows, values = min(map(len, inputs.values())), max(array.size for array in inputs.values())
        if rows <= 1 or self._most is None or values < self._most:
            try:
                return self._compute(inputs)
            except torch.OutOfMemoryError as error:
                if rows <= 1:
                    raise Overloaded(
                        "the device has no memory left for a single input. Send it again later."
                    ) from error
            # After the except clause: that holds on to the failed frames, and they hold on to their tensors.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            self._most = values
            _log.warning("no memory for a batch of %d; it is computed in halves", rows)
        half = (rows + 1) // 2
        parts = [
            self._run({name: array[part] for name, array in inputs.items()})
            for part in (slice(None, half), slice(half, None))
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _compute(self, inputs: Tensors) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            result = self._network(*(self._to_device(inputs[spec.name]) for spec in self.inputs))
            return {name: _to_numpy(tensor) for name, tensor in self._named(result).items()}

    def close(self) -> None:
        """Free the network's memory on the device."""
        self.__dict__.pop("_network", None)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        writeable = array if array.flags.writeable else array.copy()  # torch warns about read-only arrays
        tensor = torch.from_numpy(writeable)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()  # the device reads it by itself while this thread goes on
        tensor = tensor.to(self._device, non_blocking=True)
        if tensor.is_floating_point():
            tensor = tensor.to(self.dtype)
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)  # [N, C, H, W], stored as [N, H, W, C]
        return tensor

    def _named(self, result: Any) -> dict[str, torch.Tensor]:
        names = [spec.name for spec in self.outputs]
        if isinstance(result, torch.Tensor):
            result = (result,)
        if isinstance(result, Mapping):
            result = tuple(result[name] for name in names if name in result)
        if len(result) != len(names):
            raise BundleError(f"the network gives {len(result)} outputs; the signature in config.json names {names}.")
        return dict(zip(names, result, strict=True))


def _cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast all weights but those of batch normalisation."""
    kept = {id(t) for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for t in _own(m)}
    for module in network.modules():
        for tensor in _own(module):
            if id(tensor) not in kept and tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
    return network


def _own(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    array: np.ndarray = tensor.cpu().numpy()
    return array
