"""How the next token is chosen: greedy, beam search, direct sampling. Settings and their checks.

Knows the options and their ranges, and the pure functions from logits to a token; nothing about
models, caches or text. Beam search itself is in chatbot/beam.py. torch is imported only by the
functions that work on logits, so that help and completion stay light.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from chatbot.errors import BadInput
from chatbot.hints import nearest

if TYPE_CHECKING:
    from torch import Generator, Tensor

Strategy = Literal["greedy", "beam", "sample"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
COLDEST = 1e-6  # temperature: by less a logit would be divided to infinity
FEW = 512  # tokens looked at before the whole vocabulary is sorted for top-p


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of `--set KEY=VALUE`: what it does, its type and its range, both ends included."""

    key: str
    help: str
    kind: type[int] | type[float] | type[str]
    low: float = 0
    high: float = 0
    optional: bool = False  # may be "none"

    @property
    def allowed(self) -> str:
        """The range in words, as help and error messages show it."""
        if self.kind is str:
            return ", ".join(STRATEGIES)
        return f"{self.low:g} to {self.high:g}" + (", or none" if self.optional else "")

    def check(self, value: object) -> None:
        """Errors: BadInput if `value` isn't allowed."""
        if value is None and self.optional:
            return
        if self.kind is str:
            if value not in STRATEGIES:
                raise BadInput(f"{self.key} is {value!r}: choose one of {self.allowed}")
            return
        number = isinstance(value, int) or (self.kind is float and isinstance(value, float))
        if not number or isinstance(value, bool) or not self.low <= value <= self.high:  # type: ignore[operator]
            raise BadInput(f"{self.key} is {value}: give {self._noun} from {self.allowed}")

    def read(self, text: str) -> int | float | str | None:
        """The value written as `text`. Errors: BadInput."""
        text = text.strip()
        if self.optional and text.lower() in ("none", ""):
            return None
        try:
            value = self.kind(text.lower() if self.kind is str else text)
        except ValueError:
            raise BadInput(
                f"{self.key} is {text!r}: give {self._noun} from {self.allowed}"
            ) from None
        self.check(value)
        return value

    @property
    def _noun(self) -> str:
        return "a whole number" if self.kind is int else "a number"


SETTINGS: tuple[Setting, ...] = (
    Setting("strategy", "how the next token is chosen", str),
    Setting(
        "temperature", "sample: below 1 safer, above 1 bolder; 0 is the likeliest", float, 0, 5
    ),
    Setting("top_k", "sample: draw from the k likeliest tokens; 0 is off", int, 0, 1_000_000),
    Setting("top_p", "sample: draw from the likeliest tokens that sum to p; 1 is off", float, 0, 1),
    Setting("min_p", "sample: drop tokens below p times the likeliest's; 0 is off", float, 0, 1),
    Setting("repetition_penalty", "weaken tokens already in the reply; 1 is off", float, 1, 2),
    Setting("beams", "beam: number of candidate sentences", int, 1, 32),
    Setting("length_penalty", "beam: above 0 favours longer replies", float, -5, 5),
    Setting("max_tokens", "longest reply, in tokens", int, 1, 100_000),
    Setting("seed", "sample: the same seed draws the same reply", int, 0, 2**63 - 1, True),
)
KEYS: Mapping[str, Setting] = {setting.key: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a reply is decoded; every value is checked. Errors: BadInput.

    The repetition penalty counts the tokens of the reply so far, never the prompt's, since a
    recalled fact must be repeatable.
    """

    strategy: Strategy = "sample"
    temperature: float = 0.3
    top_k: int = 0
    top_p: float = 0.9
    min_p: float = 0.0
    repetition_penalty: float = 1.1
    beams: int = 4
    length_penalty: float = 1.0
    max_tokens: int = 512
    seed: int | None = None

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            setting.check(getattr(self, setting.key))

    @classmethod
    def default(cls, strategy: str = "sample") -> Decoding:
        """The settings that suit the built-in model under `strategy`. Errors: BadInput."""
        KEYS["strategy"].check(strategy)
        return cls(**DEFAULTS[strategy])

    def with_settings(self, values: Mapping[str, str]) -> Decoding:
        """These settings with `values` (key → value, as written by the user) changed.

        Another strategy starts from its own defaults and keeps max_tokens and seed. Errors:
        BadInput for an unknown key (names the nearest) or a value out of range.
        """
        changes: dict[str, Any] = {}
        for key, text in values.items():
            name = key.strip().lower().replace("-", "_")
            if name not in KEYS:
                raise BadInput(f"unknown setting {key.strip()!r}{nearest(name, KEYS)}")
            changes[name] = KEYS[name].read(text)
        base = self
        if changes.get("strategy", self.strategy) != self.strategy:
            base = Decoding.default(changes["strategy"])
            base = replace(base, max_tokens=self.max_tokens, seed=self.seed)
        return replace(base, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Every setting, for the log."""
        return asdict(self)

    def seeded(self) -> Decoding:
        """These settings, with a seed drawn if sampling has none."""
        if self.strategy != "sample" or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(2**32))


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "sample": {"strategy": "sample"},
    "greedy": {"strategy": "greedy", "repetition_penalty": 1.1},
    "beam": {"strategy": "beam", "beams": 4, "repetition_penalty": 1.0},
}


# -- from logits to a token. Every function takes logits (V,) or (B, V) and returns new ones ------


def penalised(logits: Tensor, reply: Tensor, penalty: float) -> Tensor:
    """Logits of tokens in `reply` (token ids, (N,)) weakened: divided if positive, else multiplied.

    Source: Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model", section 4.1.
    """
    if penalty == 1 or reply.numel() == 0:
        return logits
    said = logits[..., reply]
    weaker = logits.clone()
    weaker[..., reply] = (said / penalty).where(said > 0, said * penalty)
    return weaker


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits divided by the temperature (Ackley, Hinton and Sejnowski 1985), which is above 0."""
    return logits if temperature == 1 else logits / max(temperature, COLDEST)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """All but the k likeliest at -inf; 0 keeps all. Ties with the k-th stay.

    Source: Fan, Lewis and Dauphin 2018, "Hierarchical Neural Story Generation".
    """
    if k == 0 or k >= logits.shape[-1]:
        return logits
    least = logits.topk(k).values[..., -1:]
    return logits.masked_fill(logits < least, -float("inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """All but the smallest set of likeliest tokens whose probabilities reach p at -inf.

    The likeliest token always stays. Source: Holtzman et al. 2020, "The Curious Case of Neural
    Text Degeneration" (nucleus sampling).
    """
    if p >= 1:
        return logits
    probabilities = logits.softmax(-1)
    top, ids = probabilities.topk(min(FEW, logits.shape[-1]))
    if bool((top.sum(-1) < p).any()):  # the nucleus is larger than a few: sort everything
        top, ids = probabilities.sort(descending=True)
    before = top.cumsum(-1) - top  # what the likelier tokens sum to
    stays = before < p
    stays[..., 0] = True
    kept = logits.gather(-1, ids).masked_fill(~stays, -float("inf"))
    return logits.new_full(logits.shape, -float("inf")).scatter(-1, ids, kept)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Tokens less likely than p times the likeliest at -inf.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM
    Outputs".
    """
    if p <= 0:
        return logits
    probabilities = logits.softmax(-1)
    least = probabilities.amax(-1, keepdim=True) * p
    return logits.masked_fill(probabilities < least, -float("inf"))


def shaped(logits: Tensor, decoding: Decoding) -> Tensor:
    """What direct sampling draws from: temperature, top-k, top-p, min-p, in this order."""
    logits = tempered(logits, decoding.temperature)
    logits = keep_top_k(logits, decoding.top_k)
    logits = keep_top_p(logits, decoding.top_p)
    return keep_min_p(logits, decoding.min_p)


def choose(
    logits: Tensor, reply: Tensor, decoding: Decoding, generator: Generator | None = None
) -> int:
    """The id of the next token, by the greedy strategy or direct sampling.

    `logits` is (V,), `reply` the ids of the reply so far, (N,). `generator` lives on the CPU, so
    that a seed means the same on every device.
    """
    logits = penalised(logits.float(), reply, decoding.repetition_penalty)
    if decoding.strategy != "sample" or decoding.temperature == 0:
        return int(logits.argmax())
    probabilities = shaped(logits, decoding).softmax(-1).cpu()
    return int(probabilities.multinomial(1, generator=generator))
