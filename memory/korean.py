"""A second encoder for what has Hangul in it, into the space of the first.

The built-in embedder is English: it takes Korean apart into single letters. This one has tokens
for Korean stems and endings (PIECES, a line each), vectors for them, and low-rank updates of the
layers, trained so that a Korean text comes to lie where its English translation lies
(data/adapter/train_korean.py). English texts never pass through it. Knows how it is put together,
nothing of how it is used.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.adapter import Adapter, load_encoder
from memory.trained import trained

KOREAN = "korean.safetensors"
PIECES = "korean.txt"
HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


def korean_encoder(
    folder: Path, adapter: Adapter, telling: NDArray[np.float32]
) -> tuple[Any, Any, NDArray[np.float32]]:
    """The model, the tokenizer, and how much each of its tokens tells. `folder` holds the first
    encoder, `telling` is of its tokens.

    Errors: ValueError when the trained files don't fit each other.
    """
    import torch
    from torch import nn

    pieces = trained(PIECES).read_text("utf-8").splitlines()
    model = load_encoder(folder).requires_grad_(False)
    adapter.merge(model)
    told, words = adapter.telling(), adapter.words()
    if not len(pieces) == len(words) == len(told):
        raise ValueError(f"{adapter.path}: {len(words)} vectors != {len(pieces)} of {PIECES}")
    own = model.get_input_embeddings().weight
    every = nn.Embedding(len(own) + len(words), own.shape[1], _weight=torch.cat([own, words]))
    model.set_input_embeddings(every)
    return model, korean_tokenizer(folder, pieces), np.concatenate([telling, told])


def korean_tokenizer(folder: Path, pieces: list[str]) -> Any:
    """The folder's tokenizer with further pieces. It folds letters as before, but leaves a
    syllable whole instead of taking it apart."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary = state["model"]["vocab"]
    vocabulary |= {piece: len(vocabulary) + at for at, piece in enumerate(pieces)}
    whole = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    state["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            whole | {"strip_accents": False, "lowercase": True},
            {"type": "NFD"},
            {"type": "StripAccents"},
            {"type": "NFC"},
        ],
    }
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        pad_token="[PAD]",
        unk_token="[UNK]",
    )
