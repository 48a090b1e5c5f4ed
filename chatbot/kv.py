"""What the model has read: token ids with their keys and values, kept between calls.

Knows a model's forward pass and its cache, nothing about text, messages or strategies.
"""

import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from chatbot.errors import ModelFault

STEP = 256  # positions by which a layer's store grows, and by a quarter of itself beyond that


class Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, (B, H, T, D), in a store with room to grow.

    transformers' own DynamicLayer copies everything at every token; this one copies what is new,
    and is cropped by moving a number.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        self._keys = _room(self._keys, key_states, self.length, end)
        self._values = _room(self._values, value_states, self.length, end)
        self._keys[:, :, self.length : end] = key_states
        self._values[:, :, self.length : end] = value_states
        self.cut(end)
        return self._keys[:, :, :end], self._values[:, :, :end]

    def cut(self, length: int) -> None:
        """Show the first `length` positions."""
        self.length = length
        if self._keys is not None and self._values is not None:
            self.keys = self._keys[:, :, :length]
            self.values = self._values[:, :, :length]

    def get_seq_length(self) -> int:
        return self.length

    def crop(self, tokens_to_remove: int) -> None:
        self.cut(self.length - abs(tokens_to_remove))

    def copies(self, count: int) -> "Layer":
        """`count` copies of this layer's one row."""
        layer = Layer()
        if self._keys is not None and self._values is not None:
            layer.lazy_initialization(self._keys, self._values)
            layer._keys = self._keys[:, :, : self.length].repeat(count, 1, 1, 1)
            layer._values = self._values[:, :, : self.length].repeat(count, 1, 1, 1)
            layer.cut(self.length)
        return layer

    def reorder(self, rows: Tensor, start: int) -> None:
        """Row i becomes row rows[i]; before position `start` all rows are alike."""
        for store in (self._keys, self._values):
            if store is not None:
                new = store[:, :, start : self.length]
                new.copy_(new.index_select(0, rows))


def _room(store: Tensor | None, like: Tensor, length: int, end: int) -> Tensor:
    """A store with at least `end` positions that holds the first `length` of `store`."""
    if store is not None and store.shape[2] >= end:
        return store
    batch, heads, _, width = like.shape
    larger = like.new_empty(batch, heads, end + max(STEP, end // 4), width)
    if store is not None:
        larger[:, :, :length] = store[:, :, :length]
    return larger


def cache_name(takes: Collection[str]) -> str:
    """What a model calls its cache whose forward `takes` these: "cache" since transformers 5.24."""
    return "cache" if "cache" in takes else "past_key_values"


class Reading:
    """A model and the ids it has read; what a new window shares with them isn't read again.

    Not safe for threads: whoever owns it takes turns. After an exception inside `read`, `ids` still
    are exactly what the cache holds.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.ids: list[int] = []
        self._cache = self._fresh()
        takes = inspect.signature(model.forward).parameters
        self._cache_name = cache_name(takes)
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def shared(self, ids: Sequence[int]) -> int:
        """The length of the longest common prefix of `ids` and what has been read."""
        most = min(len(ids), len(self.ids))
        return next((place for place in range(most) if ids[place] != self.ids[place]), most)

    def keep(self, length: int) -> int:
        """Forget all but the first `length` ids; returns how many are left.

        That is 0 where a cache can't be cropped (a sliding window that has moved on).
        """
        surplus = len(self.ids) - length
        if surplus <= 0:
            return len(self.ids)
        try:
            if length == 0 or not self._cache.is_croppable:
                raise RuntimeError("nothing to keep")
            self._cache.crop(-surplus)
        except RuntimeError:
            self.forget()
            return 0
        del self.ids[length:]
        return length

    def forget(self) -> None:
        self._cache, self.ids = self._fresh(), []

    @torch.inference_mode()
    def read(self, ids: Sequence[int]) -> Tensor:
        """Read `ids` after what has been read; logits of the token after them, (V,).

        Errors: ModelFault.
        """
        with self._intact():
            logits = self._forward([ids], self._cache)[0]
        self.ids.extend(ids)
        return logits

    def branch(self, rows: int) -> "Branch":
        """`rows` copies of what has been read, to go on with in different ways."""
        return Branch(self, rows)

    def _forward(self, rows: Sequence[Sequence[int]], cache: DynamicCache) -> Tensor:
        """Logits after each row, (B, V)."""
        ids = torch.tensor(rows, device=self.model.device)
        out = self.model(
            input_ids=ids,
            use_cache=True,
            return_dict=True,
            **{self._cache_name: cache, **self._last_only},
        )
        logits = out.logits[:, -1]
        assert isinstance(logits, Tensor)
        return logits

    @contextmanager
    def _intact(self) -> Iterator[None]:
        """Whatever goes wrong inside, `ids` and the cache still agree."""
        try:
            yield
        except BaseException as error:
            if (layers := own_layers(self._cache)) is None:
                self.forget()
            else:
                for layer in layers:
                    layer.cut(min(layer.length, len(self.ids)))
            if isinstance(error, RuntimeError | MemoryError | ValueError | IndexError):
                raise ModelFault(_fault(error, len(self.ids))) from error
            raise

    def _fresh(self) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        cache.layers = [Layer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        return cache


class Branch:
    """Several continuations of one reading, side by side; the reading itself stays as it is."""

    def __init__(self, reading: Reading, rows: int) -> None:
        self._reading = reading
        self._start = len(reading.ids)
        self._cache = reading._fresh()
        if (layers := own_layers(reading._cache)) is not None:
            self._cache.layers = [layer.copies(rows) for layer in layers]
        else:
            self._cache = deepcopy(reading._cache)
            self._cache.batch_repeat_interleave(rows)

    @torch.inference_mode()
    def read(self, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Continue row parents[i] with tokens[i], as row i; logits, (B, V). Errors: ModelFault."""
        with self._reading._intact():
            if list(parents) != list(range(len(tokens))):
                self._reorder(torch.tensor(parents, device=self._reading.model.device))
            return self._reading._forward([[token] for token in tokens], self._cache)

    def _reorder(self, rows: Tensor) -> None:
        if (layers := own_layers(self._cache)) is None:
            self._cache.reorder_cache(cast("torch.LongTensor", rows))
            return
        for layer in layers:
            layer.reorder(rows, self._start)


def own_layers(cache: DynamicCache) -> list[Layer] | None:
    """The cache's layers, if all of them are of our kind."""
    layers = [layer for layer in cache.layers if isinstance(layer, Layer)]
    return layers if len(layers) == len(cache.layers) else None


def _fault(error: BaseException, tokens: int) -> str:
    said = str(error).strip().split("\n")[0]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in said.lower():
        return f"out of memory after {tokens} tokens: take a smaller model, or /new"
    return f"the model failed after {tokens} tokens: {said or type(error).__name__}"
