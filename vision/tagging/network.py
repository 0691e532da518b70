"""Any torchvision classification network by name, its start weights, and its stages for layer-wise fine-tuning."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from shared.bundle.layout import CONFIG, WEIGHTS
from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError, ConfigError
from shared.training.heads import Centroids, Neighbours, carried_rows


def architectures() -> list[str]:
    """Return the names that `build_network` takes."""
    import torchvision.models

    names: list[str] = list_models(module=torchvision.models)
    return names


def build_network(architecture: str, num_labels: int, dropout: float | None = None) -> nn.Module:
    """Return a torchvision classifier with `num_labels` outputs and random weights.

    The network takes float32 [N, 3, H, W] and gives logits [N, num_labels].

    Raises:
        ConfigError: torchvision has no classification network of that name.
    """
    if architecture not in architectures():
        near = [name for name in architectures() if name[:5] == architecture[:5]] or architectures()
        raise ConfigError(f"torchvision has no network {architecture!r}; the nearest are {', '.join(near[:12])}.")
    options: dict[str, Any] = {"num_classes": num_labels}
    if architecture in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    if dropout is not None and _takes_dropout(architecture):
        options["dropout"] = dropout
    network: nn.Module = get_model(architecture, weights=None, **options)
    return network


def _takes_dropout(architecture: str) -> bool:
    return architecture.startswith(("mobilenet", "efficientnet", "vgg", "alexnet", "mnasnet", "squeezenet", "vit"))


def load_start_weights(
    network: nn.Module, architecture: str, weights: str, labels: Sequence[str] = ()
) -> tuple[list[str], list[int]]:
    """Load start weights into all parts whose shapes agree.

    Of a bundle's head, the rows of those labels are taken that the network is to know.

    Args:
        network: as `build_network` made it.
        architecture: its name.
        weights: "DEFAULT" (torchvision downloads them), a safetensors file or a bundle's folder in torchvision's
            layout, or "none".
        labels: of the network.

    Returns:
        The names of the parts left as they were, and the rows of the last layer that nothing has learned before.

    Raises:
        ConfigError: no such file, no network to download with, or weights of another architecture.
    """
    fresh = list(range(len(labels)))
    known: Sequence[str] = ()
    if weights == "none":
        return [], fresh
    if weights == "DEFAULT":
        try:
            state = get_model_weights(architecture).DEFAULT.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            raise ConfigError(
                f"the start weights of {architecture} cannot be downloaded ({error}). Give a local file with "
                "--model.weights FILE.safetensors, or --model.weights none to start from random weights."
            ) from error
    else:
        path = Path(weights).expanduser()
        if (path / CONFIG).is_file():
            known = read_bundle(path).labels
        path = path / WEIGHTS if path.is_dir() else path
        if not path.is_file():
            raise ConfigError(
                f"{weights} holds no weights. Give a safetensors file, a bundle's folder, DEFAULT or none."
            )
        try:
            state = load_file(path)
        except SafetensorError as error:
            raise ConfigError(
                f"{weights} is no safetensors file: {error}. Never a pickle: convert it first."
            ) from error
    own = network.state_dict()
    fitting = {
        name: value.to(own[name].dtype)
        for name, value in state.items()
        if name in own and own[name].shape == value.shape
    }
    if known and labels:
        last = {id(parameter) for parameter in last_layer(network).parameters()}
        for name in [name for name, parameter in network.named_parameters() if id(parameter) in last]:
            fitting.pop(name, None)  # of as many labels, but maybe of others
            grown = carried_rows(own[name], state[name], labels, known) if name in state else None
            if grown is not None:
                fitting[name], fresh = grown
    left = sorted(set(own) - set(fitting))
    body = [name for name in left if not any(name.startswith(f"{head}.") for head in head_names(network))]
    if body:
        raise ConfigError(
            f"the weights in {weights} are not those of {architecture}: {len(body)} of {len(own)} tensors are missing "
            f"or of another shape, the first: {body[0]}. Check --model.architecture."
        )
    network.load_state_dict(fitting, strict=False)
    return left, fresh


def head_names(network: nn.Module) -> list[str]:
    """Return the names of the children that classify: all that follow the body."""
    names = [name for name, _ in network.named_children()]
    known = [n for n in names if n in ("classifier", "fc", "head", "heads")]
    return known or names[-1:]


def stages(network: nn.Module) -> list[nn.Module]:
    """Return the network's parts from input to output, the head last: the units of freezing and learning rates."""
    body: list[nn.Module] = []
    heads = head_names(network)
    for name, child in network.named_children():
        if name in heads:
            continue
        if isinstance(child, nn.Sequential) and name in ("features", "trunk_output", "layers"):
            body.extend(child.children())
        elif any(True for _ in child.parameters()):
            body.append(child)
    return [*body, nn.ModuleList([getattr(network, name) for name in heads])]


def last_layer(network: nn.Module) -> nn.Linear | nn.Conv2d | Neighbours:
    """Return the layer that makes the logits; it has a bias, unless it counts neighbours."""
    heads = [module for name in head_names(network) for module in getattr(network, name).modules()]
    return [
        layer
        for layer in heads
        if isinstance(layer, Neighbours) or (isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None)
    ][-1]


def replace_last_layer(network: nn.Module, layer: nn.Module) -> None:
    """Put another layer in the place of the one that makes the logits."""
    last = last_layer(network)
    parents = [
        (module, name) for module in network.modules() for name, child in module.named_children() if child is last
    ]
    for parent, name in parents:
        setattr(parent, name, layer)


def head_fields(network: nn.Module) -> dict[str, Any]:
    """Return what config.json must say to build a last layer again that is not the architecture's own."""
    last = last_layer(network)
    if isinstance(last, Neighbours):
        return {"head": "knn", "bank": len(last.keys), "neighbours": last.neighbours}
    return {"head": "prototype"} if isinstance(last, Centroids) else {}


_read = threading.local()
"""What the last layer of this thread's network read last: [N, D], or [N, D, H, W] where it is a convolution."""


def _keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    _read.features = inputs[0]


class FeatureNetwork(nn.Module):
    """A classifier that also gives what its last layer reads: logits [N, num_labels] and features [N, D].

    A hook keeps them, because networks differ in what stands around their last layer.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        last_layer(network).register_forward_pre_hook(_keep)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and features of float32 [N, 3, H, W]."""
        logits = self.network(pixel_values)
        features = _read.features
        return logits, features.flatten(2).mean(2) if features.ndim > 2 else features


def load_network(bundle: Bundle) -> nn.Module:
    """Return the bundle's network with its weights, in eval mode; with features where its signature has them.

    Raises:
        BundleError: model.safetensors is missing or of another architecture.
    """
    architecture = bundle.config.architectures[0]
    network = build_network(architecture, len(bundle.labels))
    _restore_head(network, bundle)
    state = load_file(bundle.file(WEIGHTS))
    try:
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        )
    except RuntimeError as error:
        raise BundleError(f"{bundle.path}/{WEIGHTS} does not fit {architecture}: {error}") from error
    gives_features = len(bundle.config.signature.outputs) > 1
    return (FeatureNetwork(network) if gives_features else network).eval()


def _restore_head(network: nn.Module, bundle: Bundle) -> None:
    """Put the last layer of a plain method into a network, if config.json says that it has one."""
    fields = bundle.config.model_extra or {}
    last = last_layer(network)
    if "head" not in fields or not isinstance(last, nn.Linear):
        return
    try:
        if fields["head"] == "knn":
            counts = (fields["bank"], fields["neighbours"])
            replace_last_layer(network, Neighbours(last.in_features, len(bundle.labels), *counts))
        else:
            replace_last_layer(network, Centroids(last.in_features, len(bundle.labels)))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{bundle.path}/{CONFIG} describes no head: {error!r}") from error


def has_untouched_batch_norm(network: nn.Module) -> bool:
    """Whether all batch norm layers have mean 0 and variance 1, as in weights with batch norm folded away."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    pairs = [(m.running_mean, m.running_var) for m in norms if m.running_mean is not None and m.running_var is not None]
    return bool(pairs) and all(bool((mean == 0).all()) and bool((var == 1).all()) for mean, var in pairs)


@torch.no_grad()
def unfold_batch_norm(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Give folded batch norm layers the statistics of real photos, without changing what the network computes.

    Weights with batch norm folded into the convolutions leave layers with mean 0 and variance 1, although their inputs
    are nothing of the kind; training would then normalise what was never normalised and lose what was learned. Here
    each layer's input statistics are measured, and scale and shift are set so that the layer's output stays the same.

    Args:
        network: any network with BatchNorm2d.
        batches: float32 [N, 3, H, W] each; a few hundred photos suffice.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    sums: dict[nn.Module, list[torch.Tensor]] = {}

    def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].detach().double().transpose(0, 1).flatten(1)  # [C, N*H*W]
        count = values.new_full((values.shape[0],), values.shape[1])
        found = [count, values.sum(1), values.square().sum(1)]
        sums[module] = [a + b for a, b in zip(sums[module], found, strict=True)] if module in sums else found

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    was_training = network.training
    network.eval()
    for batch in batches:
        network(batch)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        count, total, squares = sums[norm]
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        if norm.running_mean is None or norm.running_var is None:
            continue
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - gain * norm.running_mean.double()
        norm.weight.copy_(gain * (variance + norm.eps).sqrt())
        norm.bias.copy_(shift + gain * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
