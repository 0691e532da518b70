"""Sentence embeddings: texts to vectors whose cosine says how close in meaning they are.

Not trained here: `packing` takes a sentence encoder that others trained, for `percept import-encoder`.
"""

NETWORK = "nlp.encoders:load_embedding_network"
"""For `choose_runtime`: what the torch runtime computes on a GPU."""
