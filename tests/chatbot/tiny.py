"""Tokenizers, chat templates and models, small and made on the spot, for tests of the engine."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

CORPUS = [
    "The quick brown fox jumps over the lazy dog. " * 3,
    "안녕하세요, 오늘 날씨가 좋네요. 고양이가 대화하는 것을 들었다. " * 3,
    "Emoji: 😀 👨‍👩‍👧‍👦 🇰🇷 ❤️ and naïve café",
]
SPECIAL = ["<|endoftext|>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]"]
SPECIAL += ["<start_of_turn>", "<end_of_turn>"]
PLAIN_TAGS = ["<think>", "</think>"]  # added, but not special, as in Qwen 3

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}" + ALTERNATE + "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '[INST] ' }}{% if loop.first and system is defined %}"
    "{{ system + '\\n\\n' }}{% endif %}{{ m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content|trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    + ALTERNATE
    + "{% for m in messages %}{{ '<start_of_turn>' "
    "+ ('model' if m.role == 'assistant' else 'user') "
    "+ '\\n' + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "mistral": MISTRAL, "gemma": GEMMA}


def gpt2_like() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def llama_like() -> PreTrainedTokenizerFast:
    """▁ for spaces, bytes for what the vocabulary lacks, as in Llama 2."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted(set("".join(CORPUS[:1])) - {" "})
    vocab = {
        text: place
        for place, text in enumerate(["<unk>", "<s>", "</s>", *bytes_, "▁", *letters, "안", "녕"])
    }
    merges = [("▁", letter) for letter in "qtb"] + [("t", "h"), ("o", "x")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def t5_like() -> PreTrainedTokenizerFast:
    """Metaspace without bytes: nothing but text to go by."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def chat_like(kind: str, template: str | None) -> PreTrainedTokenizerFast:
    """A GPT-2-like or Llama-2-like tokenizer with every control token of TEMPLATES."""
    tokenizer = {"gpt2": gpt2_like, "llama": llama_like}[kind]()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.add_tokens(PLAIN_TAGS)
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    tokenizer.chat_template = template
    return tokenizer


def tiny_llama(vocabulary: int, window: int = 512, seed: int = 1) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(**_shape(vocabulary), max_position_embeddings=window, eos_token_id=2)
    return LlamaForCausalLM(config).eval()


def tiny_mistral(vocabulary: int, sliding: int) -> PreTrainedModel:
    """A model whose attention slides over the last `sliding` tokens."""
    torch.manual_seed(1)
    config = MistralConfig(
        **_shape(vocabulary), max_position_embeddings=512, sliding_window=sliding, eos_token_id=2
    )
    return MistralForCausalLM(config).eval()


def tiny_gpt2(vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=256, eos_token_id=0
    )
    return GPT2LMHeadModel(config).eval()


def _shape(vocabulary: int) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
