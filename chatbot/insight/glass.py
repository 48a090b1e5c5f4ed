"""A GPT that one can look into: every logit, hidden vector and attention weight of a text.

A copy of the model beside the one that chats, in float32, so that what is shown is what
transformers computes, and looking never disturbs a chat's cache. Knows nothing about memory,
messages or screens.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from chatbot.detokenize import bytes_of
from chatbot.encoding import Encoder
from chatbot.errors import BadInput, ModelFault, WindowFull
from chatbot.kv import cache_name
from chatbot.models import ModelFiles, load, machine, resolve

ROOM = 0.6  # of the free memory that a float32 copy may take; a larger model is read as it lies
WINDOW = 2048  # of a model that doesn't say
WIDEST = 1024  # tokens whose attention is looked at: L x H x T x T numbers
NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm", "norm_f")  # before the output head
SIGNS = {ord(" "): "·", ord("\n"): "↵", ord("\t"): "⇥", ord("\r"): "␍"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model made of T tokens, in float32: `logits` (T, V); `hidden` (L + 1, T, D), the input
    vectors first, the last layer's as they come out of it, before the final norm; `attention`
    (L, H, T, T), row by looking token. `hidden` and `attention` are None unless asked for."""

    ids: tuple[int, ...]
    logits: Tensor
    hidden: Tensor | None = None
    attention: Tensor | None = None


class Glass:
    """A model, its tokenizer, and ways to look. Not safe for threads.

    `exact` says whether the numbers are float32 throughout.
    """

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.encoder = Encoder(tokenizer)
        self.exact = model.dtype == torch.float32
        config = model.config.get_text_config(decoder=True)
        self.window = int(getattr(config, "max_position_embeddings", None) or WINDOW)
        self._bytes, _ = bytes_of(tokenizer)
        self._norm = _final_norm(model)
        takes = inspect.signature(model.forward).parameters
        self.cache_name = cache_name(takes)
        self._keeps = "logits_to_keep" in takes

    @classmethod
    def open(cls, name: str) -> "Glass":
        """Load the model called `name`. Slow. Errors: ModelFault, also for a remote model."""
        if name.startswith("openai:"):
            raise ModelFault(
                f"{name} answers over a connection: only a local model can be seen into"
            )
        files = resolve(name)
        fits = 4 * _parameters(files) <= ROOM * _free(machine().device)
        model, tokenizer = load(files, dtype=torch.float32 if fits else None)
        return cls(name, model, tokenizer)

    @property
    def note(self) -> str:
        """What there is to say about how exact the numbers are; mostly nothing."""
        if self.exact:
            return ""
        kind = str(self.model.dtype).removeprefix("torch.")
        return f"{self.name} is too large to be copied in float32: its numbers are {kind}'s"

    # -- text and tokens --------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """The ids of a bare text, with what the model wants before one. Control tokens in it are
        read as the letters that they are. Errors: BadInput when it is empty, WindowFull."""
        if not text:
            raise BadInput("the text is empty: give some words")
        ids = self.encoder.encode_text(text)
        self.check(ids)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens included."""
        text = self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text

    def labels(self, ids: Sequence[int]) -> list[str]:
        """Each token as people read it, on one line: "·the", with a sign for a space.

        A character whose bytes are spread over tokens (a Korean syllable) stands on the last of
        them; the others, and bytes that are no character, show their bytes: "⟨EC⟩⟨95⟩".
        """
        if self._bytes is None:
            return [self._word(token).replace("▁", "·").translate(SIGNS) for token in ids]
        parts = [self._bytes(token) for token in ids]
        labels = _spelled(parts)
        return [
            label.translate(SIGNS) if part else self._word(token)
            for token, part, label in zip(ids, parts, labels, strict=True)
        ]

    def _word(self, token: int) -> str:
        """The token as the vocabulary spells it; ids beyond it have no name."""
        word = self.tokenizer.convert_ids_to_tokens(token)
        return word if isinstance(word, str) and word else f"⟨{token}⟩"

    def check(self, ids: Sequence[int]) -> None:
        """Errors: WindowFull when there are more `ids` than the model can see."""
        if len(ids) > self.window:
            raise WindowFull(
                f"the text takes {len(ids)} tokens, {self.name} sees {self.window}: shorten it"
            )

    # -- looking ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def read(
        self,
        ids: Sequence[int],
        *,
        hidden: bool = False,
        attention: bool = False,
        last: int | None = None,
    ) -> Seen:
        """One forward pass over `ids` (T,).

        With `last`, logits and hidden vectors are only those of the `last` last tokens, which
        spares memory. Errors: WindowFull; ModelFault, also when `attention` is asked for and T is
        above WIDEST, or when the model can't show its attention.
        """
        self.check(ids)
        if attention and len(ids) > WIDEST:
            raise ModelFault(
                f"attention over {len(ids)} tokens is more than can be shown: give at most {WIDEST}"
            )
        before: list[Tensor] = []
        with self._plain_attention(attention), _watched(self._norm, before), _one_line(len(ids)):
            out = self.model(
                input_ids=torch.tensor([list(ids)], device=self.model.device),
                use_cache=False,
                return_dict=True,
                output_hidden_states=hidden,
                output_attentions=attention,
                **self._only(last),
            )
        return Seen(
            tuple(ids),
            out.logits[0, -(last or 0) :].float(),
            _hidden(out.hidden_states, before, last) if hidden else None,
            self._attention(out.attentions) if attention else None,
        )

    @torch.inference_mode()
    def lens(self, hidden: Tensor) -> Tensor:
        """Logits (…, V) of hidden vectors (…, D): the final norm and the output head.

        The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): what the model
        would say if it ended there. Errors: ModelFault if the model has no such norm and head.
        """
        model: Any = self.model
        head = model.get_output_embeddings()
        if self._norm is None or head is None:
            raise ModelFault(f"{self.name} has no final norm that is known here: no lens fits it")
        logits = head(self._norm(hidden.to(self.model.dtype)))
        return _capped(logits.float(), self.model.config.get_text_config(decoder=True))

    def follow(self, ids: Sequence[int]) -> Iterator[int]:
        """The likeliest next token, the one after that, and so on, until the window is full.
        Errors: ModelFault, WindowFull."""
        self.check(ids)
        cache, new = DynamicCache(config=self.model.config), list(ids)
        for count in range(len(ids), self.window):
            with torch.inference_mode(), _one_line(count):
                new = [int(self._logits(new, cache, 1)[-1].argmax())]
            yield new[0]

    # -- how likely a text is ---------------------------------------------------------------------

    @torch.inference_mode()
    def prefix(self, ids: Sequence[int]) -> DynamicCache:
        """The keys and values of `ids`, to be continued from. Errors: ModelFault, WindowFull."""
        self.check(ids)
        cache = DynamicCache(config=self.model.config)
        with _one_line(len(ids)):
            self._logits(list(ids), cache, 1)
        return cache

    @torch.inference_mode()
    def log_probabilities(
        self,
        prompt: Sequence[int],
        reply: Sequence[int],
        prefix: tuple[Sequence[int], DynamicCache] | None = None,
    ) -> Tensor:
        """The log-probability, (R,), of each token of `reply` (R,) after `prompt` and the ones
        before it.

        `prefix` is ids with their keys and values, as `prefix(ids)` gives them: what it shares with
        `prompt` isn't read again, and it stays as it is. Errors: BadInput for an empty prompt,
        ModelFault, WindowFull.
        """
        if not prompt:
            raise BadInput("nothing stands before the words whose probability is asked for")
        self.check([*prompt, *reply])
        if not reply:
            return torch.empty(0)
        ids = [*prompt, *reply[:-1]]
        shared, cache = self._continued(prompt, prefix)
        with _one_line(len(ids)):
            logits = self._logits(ids[shared:], cache, len(reply))
        given = torch.tensor(list(reply), device=logits.device)
        return logits.log_softmax(-1).gather(-1, given[:, None])[:, 0].cpu()

    def _continued(
        self, prompt: Sequence[int], prefix: tuple[Sequence[int], DynamicCache] | None
    ) -> tuple[int, DynamicCache | None]:
        """How many ids of `prompt` needn't be read, and a cache that holds just them.

        The last id of the prompt is always read, for the logits after it. A cache that has let
        tokens go (a sliding window) is of no use.
        """
        if prefix is None or any(type(layer) is not DynamicLayer for layer in prefix[1].layers):
            return 0, None
        known, kept = prefix
        most = min(len(known), len(prompt) - 1)
        shared = next((place for place in range(most) if known[place] != prompt[place]), most)
        if not shared:
            return 0, None
        cache = DynamicCache(config=self.model.config)
        layers: Any = kept.layers
        for place, layer in enumerate(layers):
            cache.update(layer.keys[:, :, :shared], layer.values[:, :, :shared], place)
        return shared, cache

    def _logits(self, ids: list[int], cache: DynamicCache | None, last: int) -> Tensor:
        """The logits (last, V) after each of the `last` last of `ids`, read after the cache's."""
        out = self.model(
            input_ids=torch.tensor([ids], device=self.model.device),
            use_cache=cache is not None,
            return_dict=True,
            **{self.cache_name: cache, **self._only(last)},
        )
        logits = out.logits[0, -last:].float()
        assert isinstance(logits, Tensor)
        return logits

    def _only(self, last: int | None) -> dict[str, int]:
        """The argument that lets the model compute only the logits of the last tokens."""
        return {"logits_to_keep": last} if last and self._keeps else {}

    # -- attention --------------------------------------------------------------------------------

    @contextmanager
    def _plain_attention(self, wanted: bool) -> Iterator[None]:
        """Let the model compute its attention weights one by one, if they are `wanted`: the fused
        kernels don't have them."""
        if not wanted:
            yield
            return
        config: Any = self.model.config
        before = config._attn_implementation
        try:
            self.model.set_attn_implementation("eager")
        except (ValueError, NotImplementedError) as error:
            raise ModelFault(f"{self.name} can't show its attention: take another model") from error
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    def _attention(self, layers: Sequence[Tensor | None] | None) -> Tensor:
        """(L, H, T, T) from what transformers gives, (1, H, T, T) a layer. Errors: ModelFault."""
        if not layers or any(layer is None for layer in layers):
            raise ModelFault(f"{self.name} can't show its attention: take another model")
        return torch.stack([layer[0] for layer in layers if layer is not None]).float()


# -- the model's parts ----------------------------------------------------------------------------


def _final_norm(model: PreTrainedModel) -> nn.Module | None:
    """The norm between the last layer and the output head, by the names that families give it."""
    whole: Any = model
    for part in (whole.get_decoder(), whole.base_model):
        for name in NORMS:
            if isinstance(norm := getattr(part, name, None), nn.Module):
                return norm
    return None


@contextmanager
def _watched(norm: nn.Module | None, before: list[Tensor]) -> Iterator[None]:
    """Put what goes into `norm` into `before`: transformers' last hidden vectors are what comes
    out of it."""
    if norm is None:
        yield
        return
    hook = norm.register_forward_pre_hook(lambda _norm, given: before.append(given[0]))
    try:
        yield
    finally:
        hook.remove()


def _hidden(layers: Sequence[Tensor], before: Sequence[Tensor], last: int | None) -> Tensor:
    """(L + 1, T, D): the last layer's before the norm, where that is known."""
    final = before[-1] if before else layers[-1]
    return torch.stack([layer[0, -(last or 0) :] for layer in (*layers[:-1], final)]).float()


def _capped(logits: Tensor, config: Any) -> Tensor:
    """What some families still do to their head's logits: Granite, Cohere, Gemma."""
    if scaling := getattr(config, "logits_scaling", None):
        logits = logits / scaling
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits


# -- memory and faults ----------------------------------------------------------------------------


def _parameters(files: ModelFiles) -> int:
    """How many numbers a model's files hold. Their headers alone are read."""
    from safetensors import safe_open

    count = 0
    for path in files.folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            count += sum(prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return count


def _free(device: str) -> int:
    """Free bytes of memory where the model will lie."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@contextmanager
def _one_line(tokens: int) -> Iterator[None]:
    """A fault of the model as ModelFault."""
    try:
        yield
    except (RuntimeError, MemoryError, ValueError, IndexError) as error:
        said = (str(error).strip() or type(error).__name__).split("\n")[0]
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in said.lower():
            said = "out of memory: give a shorter text, or take a smaller model"
        raise ModelFault(f"the model failed on {tokens} tokens: {said}") from error


# -- bytes ----------------------------------------------------------------------------------------


def _spelled(parts: Sequence[bytes]) -> list[str]:
    """What each part of a run of UTF-8 shows; see Glass.labels."""
    labels = [""] * len(parts)
    owners = [place for place, part in enumerate(parts) for _ in part]
    data = b"".join(parts)
    at = 0
    while at < len(data):
        length = _whole(data, at)
        end = owners[at + max(length, 1) - 1]
        for byte in range(at, at + max(length, 1)):
            if not length or owners[byte] != end:
                labels[owners[byte]] += f"⟨{data[byte]:02X}⟩"
        if length:
            labels[end] += data[at : at + length].decode("utf-8")
        at += max(length, 1)
    return labels


def _whole(data: bytes, at: int) -> int:
    """The bytes of the character that begins at `at`; 0 if it is broken."""
    for length in range(1, 5):
        try:
            data[at : at + length].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return length if at + length <= len(data) else 0
    return 0
