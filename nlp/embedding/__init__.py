"""Sentence embeddings: texts to vectors whose cosine says how near in meaning they are.

Not trained here: `packing` takes a sentence encoder that others trained, `percept import-encoder` calls it. What it is
for: sorting what `nlp.knowledge` found, in `nlp.knowledge.search`.
"""

NETWORK = "nlp.embedding.network:load_network"
"""For `choose_runtime`: what the torch runtime computes on a GPU."""
