"""A tokenizer that learns its pieces from the training utterances: for networks that start from nothing.

Neighbour: `data` asks for it where the encoder is "bilstm"; pretrained encoders bring their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PAD, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MIN_FREQUENCY = 2
"""A piece that stands once teaches nothing."""


def train_tokenizer(texts: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """Return a WordPiece tokenizer of lower-case text with BERT's special tokens; the same texts give the same one.

    Args:
        texts: training utterances, no others.
        vocabulary_size: most pieces.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[PAD, UNKNOWN, START, END, MASK],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, int(tokenizer.token_to_id(token) or 0)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", pair=f"{START} $A {END} $B:1 {END}:1", special_tokens=ends
    )
    return tokenizer
