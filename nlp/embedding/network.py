"""Any Hugging Face encoder with its tokens' mean, scaled to length 1, as the sentence's embedding.

Neighbour: `packing` exports it; `load_network` is what the torch runtime builds from a bundle.
Source: Reimers and Gurevych 2019, "Sentence-BERT", section 3 (mean pooling).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, PreTrainedModel

from nlp.encoders import bundle_model
from shared.bundle.read import Bundle


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
    return EmbeddingNetwork(bundle_model(AutoModel, bundle)).eval()
