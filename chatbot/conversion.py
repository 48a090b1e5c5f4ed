"""GGUF → a folder of safetensors with tokenizer and chat template, once.

Reading a GGUF file takes seconds to minutes; what is written here is loaded in a fraction of a
second. Knows nothing about where files come from or where they are kept.
"""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.errors import ModelFault
from chatbot.headers import check_gguf

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What transformers, tokenizers and safetensors raise for a checkpoint that is broken or unknown.
LOADING_ERRORS = (
    OSError,
    ValueError,  # also UnicodeDecodeError, JSONDecodeError
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,  # also NotImplementedError, torch.OutOfMemoryError
    MemoryError,
    struct.error,
)


def first_line(error: BaseException) -> str:
    """What a library says of an error, cut to one readable line."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0].strip()
    return line if len(line) <= 200 else line[:199] + "…"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and advice off the user's terminal."""
    # Not as attributes of transformers: while it imports its first model it puts a fresh module in
    # its own place, which lacks those that were imported before.
    logging: Any = import_module("transformers.utils.logging")  # partly untyped
    # This module draws a bar of its own, which the setting for bars doesn't reach.
    gguf: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    tqdm, gguf.tqdm = gguf.tqdm, lambda tensors, **_: tensors
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        gguf.tqdm = tqdm
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model in `gguf` into `folder` as bf16 safetensors, tokenizer and chat template.

    `gguf` should lie in a folder of its own: transformers also looks at its neighbours.
    Errors: ModelFault.
    """
    check_gguf(gguf)
    import torch
    from transformers import AutoTokenizer, GgufConfig

    with quiet():
        try:
            model = load_whole(
                gguf.parent,
                gguf.name,
                gguf_file=gguf.name,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
            )
            # transformers refuses to save a model while this entry is on its config.
            model.config.__dict__.pop("quantization_config", None)
            model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
            ).save_pretrained(folder)
        except LOADING_ERRORS as error:
            raise ModelFault(f"{gguf.name} can't be read as GGUF: {first_line(error)}") from error
    config = folder / "config.json"
    settings = json.loads(config.read_text("utf-8"))
    settings.pop("_model_name_or_path", None)  # the GGUF's inner title, which names no file
    config.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def load_whole(folder: Path, name: str, **options: Any) -> "PreTrainedModel":
    """Load a GPT and refuse one that lacks weights: transformers fills those with noise and only
    warns. Nothing outside `folder` is read and no code in it is run. Errors: ModelFault, and
    LOADING_ERRORS."""
    from transformers import AutoModelForCausalLM

    both: Any = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, local_files_only=True, trust_remote_code=False, **options
    )
    model: PreTrainedModel
    model, loaded = both
    if missing := sorted(map(str, loaded["missing_keys"])):
        raise ModelFault(
            f"{name} lacks {len(missing)} of its weights (the first: {missing[0]}), "
            "so it is no GPT or not whole. Choose another: chatbot models list"
        )
    return model
