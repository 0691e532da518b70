"""Any Hugging Face encoder with its tokens' mean, scaled to length 1, as the sentence's embedding.

Neighbour: `packing` exports it; `load_network` is what the torch runtime builds from a bundle.
Source: Reimers and Gurevych 2019, "Sentence-BERT", section 3 (mean pooling).
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, PreTrainedModel

from shared.bundle.layout import CONFIG, WEIGHTS
from shared.bundle.read import Bundle
from shared.errors import BundleError


class EmbeddingNetwork(nn.Module):
    """A Hugging Face encoder, with tensors in and tensors out.

    `model` is the Hugging Face model itself: its state is what AutoModel loads.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: PreTrainedModel = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return embeddings [N, d] of int64 [N, T]."""
        tokens = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)  # [N, T, 1]
        mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)  # [N, d]
        return normalize(mean, dim=1)


def load_network(bundle: Bundle) -> nn.Module:
    """Return the bundle's network in eval mode with its weights.

    Raises:
        BundleError: the weights are not those of the network that config.json names.
    """
    config = AutoConfig.from_pretrained(str(bundle.file(CONFIG)), attn_implementation="eager")
    network = EmbeddingNetwork(AutoModel.from_config(config))  # type: ignore[no-untyped-call]
    try:
        state = {name: value.to(torch.float32) if value.is_floating_point() else value
                 for name, value in load_file(str(bundle.file(WEIGHTS))).items()}  # fmt: skip
        network.model.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"{bundle.path}/{WEIGHTS} does not fit {bundle.config.architectures[0]}: {error}") from error
    return network.eval()
