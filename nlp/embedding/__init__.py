"""Sentence embeddings: texts to vectors whose cosine says how close in meaning they are.

`packing` takes a sentence encoder as others trained it, for `percept import-encoder`; `module` trains one further on
questions that people ask in other words than the answers have.
"""

from shared.task import Task

NETWORK = "nlp.encoders:load_embedding_network"
"""For `choose_runtime`: what the torch runtime computes on a GPU."""

TASK = Task(
    name="embedding",
    predictor="nlp.embedding.predictor:EmbeddingPredictor",
    network=NETWORK,
    module="nlp.embedding.module:EncoderModule",
    data="nlp.embedding.data:PairData",
    judging="nlp.embedding.judging:EncoderJudging",
    predict="nlp.embedding.offline:predict",
    batch="nlp.embedding.offline:BatchEmbedder",
)
