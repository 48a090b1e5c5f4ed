"""Messages → token ids: chat templates, and the wall between content and control tokens.

Control tokens come from the template alone. A template is rendered with unguessable placeholders
where contents belong; in what the template itself wrote, each control token's text is swapped for
an unguessable name; then contents are put in, and a copy of the tokenizer that knows control tokens
by those names only reads the whole. So `<|im_start|>system`, typed by a user or lying in a memory,
is read as the letters that it is, and everything else becomes exactly what the model's own
tokenizer makes of it. Knows nothing about models or memory.

Some templates tell the roles in plain text (`[INST]` of the first Mistral, `<|user|>` of Zephyr).
Where a content spells such a mark, a space is put into it.

A model without a template (GPT-2) gets FALLBACK: a dialogue written out in plain text, which ends
where the model begins to speak for the user.
"""

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from chatbot.engines import Message
from chatbot.errors import ModelFault

FALLBACK = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
    "{% else %}{{ 'User: ' if message.role == 'user' else 'Assistant: ' }}"
    "{{ message.content + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
FALLBACK_STOPS = ("\nUser:",)
REMEMBERED = 512  # replies whose own ids are known
RUNS = 2048  # stretches of text whose ids are known
BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a byte of a byte-fallback vocabulary
TAG = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Control:
    """A control token, by the unguessable name under which the copied tokenizer knows it."""

    name: str
    id: int


class Encoder:
    """Turns messages into the ids that a model was trained to see.

    `ends` are the ids with which the model's turn ends, as far as the template tells; `stops` are
    texts that end a reply (only where there is no template). Errors: ModelFault if the tokenizer
    or the template can't be used.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._nonce = secrets.token_hex(16)
        self._template = _template(tokenizer)
        self.stops: tuple[str, ...] = ()
        self._front: Ids = ()
        if self._template is None:
            self._template, self.stops = FALLBACK, FALLBACK_STOPS
            self._front = _own_start(tokenizer)
        self._controls, self._plain, self._ids = self._wall()
        self._control = re.compile(
            "|".join(re.escape(text) for text in sorted(self._controls, key=len, reverse=True))
            or r"(?!)"
        )
        self._control_ids = frozenset(control.id for control in self._controls.values())
        self._replies: OrderedDict[str, tuple[str, Ids]] = OrderedDict()
        self._run = lru_cache(RUNS)(self._read)
        self._manners()
        self._marks = self._plain_marks()
        self.ends = self._ends()

    def encode(self, messages: Sequence[Message], reply: bool = True) -> list[int]:
        """The ids of `messages`; with `reply`, up to where the assistant's next message begins."""
        ids = list(self._front)
        items = list(self._items(self._mannered(messages), reply))
        break_ = self._nonce + "break"
        for place, item in enumerate(items):
            if isinstance(item, _Control):
                ids.append(item.id)
            elif isinstance(item, tuple):
                ids.extend(item)
            else:
                left, right = ("" if place == 0 else break_), ""
                if place and isinstance(before := items[place - 1], _Control):
                    left = before.name
                if place + 1 < len(items) and isinstance(after := items[place + 1], _Control):
                    right = after.name
                ids.extend(self._run(left, item, right))
        return ids

    def encode_text(self, text: str) -> list[int]:
        """The ids of a bare text, with what the tokenizer puts before one, without a template."""
        return [*_own_start(self._tokenizer), *self._run("", text, "")]

    def remember(self, raw: str, ids: Sequence[int]) -> None:
        """Read a message that says `raw` as `ids` from now on: those that the model generated.

        Not if they hold what the template alone may say, whoever made the model say it.
        """
        text = raw.strip()
        if not text or text in self._replies:  # the first stands in the window already
            return
        if self._control_ids.intersection(ids) or self._marks.search(raw):
            return
        self._replies[text] = (raw, tuple(ids))
        while len(self._replies) > REMEMBERED:
            self._replies.popitem(last=False)

    # -- from messages to text, control tokens and known ids --------------------------------------

    def _items(
        self, messages: Sequence[Sequence[Message]], reply: bool
    ) -> Iterator[str | Ids | _Control]:
        """The rendered template in order: stretches of text, ids of replies, control tokens."""
        contents = [part for group in messages for part in group]
        holes = iter(range(len(contents)))
        turns = [
            {
                "role": group[0].role,
                "content": "\n\n".join(self._hole(next(holes)) for _ in group),
            }
            for group in messages
        ]
        text = ""
        pieces = re.split(f"{self._nonce}m([0-9]{{6}})", self._render(turns, reply))
        for place, piece in enumerate(pieces):
            if place % 2:
                message = contents[int(piece)]
                known = self._replies.get(message.content.strip())
                if message.role != "assistant" or known is None:
                    text += self._content(message)
                    continue
                raw, ids = known
                lead = raw[: len(raw) - len(raw.lstrip())]
                text = text[: len(text) - len(lead)] if lead and text.endswith(lead) else text
                if text:
                    yield text
                yield ids
                text = ""
                continue
            start = 0
            for found in self._control.finditer(piece):
                if text := text + piece[start : found.start()]:
                    yield text
                yield self._controls[found[0]]
                text, start = "", found.end()
            text += piece[start:]
        if text:
            yield text

    def _content(self, message: Message) -> str:
        text = message.content.strip() if self._strips else message.content
        return self._marks.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", text)

    def _hole(self, place: int) -> str:
        return f"{self._nonce}m{place:06d}"

    def _render(self, turns: list[dict[str, str]], reply: bool) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                turns,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=reply,
                enable_thinking=False,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ModelFault(
                f"this model's chat template refuses the conversation: {error}"
            ) from error
        assert isinstance(text, str)
        return text

    # -- what a template takes --------------------------------------------------------------------

    def _manners(self) -> None:
        """Find out what the template takes: a system message, one in mid-talk, a role twice."""
        system, user, reply = (
            {"role": role, "content": f"  {self._hole(place)}  "}
            for place, role in enumerate(("system", "user", "assistant"))
        )
        again = user | {"content": self._hole(3)}
        self._takes_system = self._takes([system, user], 2)
        self._takes_system_later = self._takes_system and self._takes(
            [user, reply, system | {"content": self._hole(0)}, again], 4
        )
        self._takes_role_twice = self._takes([user, again], 2)
        self._strips = f"  {self._hole(1)}  " not in self._render([user], True)

    def _takes(self, turns: list[dict[str, str]], contents: int) -> bool:
        try:
            text = self._render(turns, True)
        except ModelFault:
            return False
        return len(set(re.findall(f"{self._nonce}m[0-9]{{6}}", text))) == contents

    def _mannered(self, messages: Sequence[Message]) -> list[list[Message]]:
        """Messages in groups that the template takes: a group becomes one message.

        A system message that isn't taken joins the user's next one.
        """
        groups: list[list[Message]] = []
        for place, message in enumerate(messages):
            if message.role == "system" and not (
                self._takes_system if place == 0 else self._takes_system_later
            ):
                message = Message("user", message.content)
            if not self._takes_role_twice and groups and groups[-1][0].role == message.role:
                groups[-1].append(message)
            else:
                groups.append([message])
        if not self._takes_role_twice and groups and groups[0][0].role == "assistant":
            groups.insert(0, [Message("user", "…")])
        return groups

    def _ends(self) -> frozenset[int]:
        """The control token with which the template ends the assistant's message."""
        user, reply = (
            {"role": role, "content": self._hole(place)}
            for place, role in enumerate(("user", "assistant"))
        )
        after = self._render([user, reply], False).rpartition(self._hole(1))[2]
        found = self._control.match(after.lstrip())
        return frozenset([self._controls[found[0]].id]) if found else frozenset()

    def _plain_marks(self) -> re.Pattern[str]:
        """What the template writes in plain text to tell who speaks."""
        system, *talk = (
            {"role": role, "content": self._hole(place)}
            for place, role in enumerate(("system", "user", "assistant", "user"))
        )
        text = self._render([system, *talk] if self._takes_system else talk, True)
        to_reply, *others = re.split(f"{self._nonce}m[0-9]{{6}}", text)[1 + self._takes_system :]
        marks = {tag for tag in TAG.findall(text) if tag not in self._controls}
        if not marks and not self._control.search(to_reply):  # the roles are told in words
            marks = {self._control.split(part)[-1].rstrip() for part in (to_reply, *others)}
        found = sorted((mark for mark in marks if len(mark.strip()) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, found)) or r"(?!)")

    # -- the wall ---------------------------------------------------------------------------------

    def _wall(self) -> tuple[dict[str, _Control], Tokenizer, dict[int, int]]:
        """Control tokens by their text, the tokenizer that doesn't know it, and its ids → ours."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ModelFault("this model's tokenizer has no tokenizer.json: choose another model")
        state = json.loads(backend.to_str())
        state["post_processor"] = None  # the template alone says where a text begins and ends
        state["truncation"] = state["padding"] = None
        controls: dict[str, _Control] = {}
        ours: dict[str, int] = {}
        for place, added in enumerate(state["added_tokens"]):
            text = added["content"]
            if _controls(added, self._template or ""):
                name = f"{self._nonce}c{place:06d}"
                controls[text] = _Control(name, added["id"])
                added |= {"content": name, "normalized": False, "single_word": False}
            ours[added["content"]] = added["id"]
        _rename(state["model"], {text: control.name for text, control in controls.items()})
        state["added_tokens"].append(
            dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            | {"id": 1 + max(ours.values(), default=0), "content": f"{self._nonce}break"}
            | {"special": True}
        )
        plain = Tokenizer.from_str(json.dumps(state))
        moved = ((plain.token_to_id(name), id_) for name, id_ in ours.items())
        return controls, plain, {new: old for new, old in moved if new is not None and new != old}

    def _read(self, left: str, text: str, right: str) -> Ids:
        """The ids of `text` between two names of control tokens (or nothing)."""
        ids = self._plain.encode(left + text + right, add_special_tokens=False).ids
        ids = ids[bool(left) : len(ids) - bool(right)]
        return tuple(self._ids.get(id_, id_) for id_ in ids)


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    if not tokenizer.chat_template:
        return None
    template = tokenizer.get_chat_template()
    assert isinstance(template, str)
    return template


def _own_start(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """What the tokenizer puts before a bare text: a BOS, or nothing."""
    bos = tokenizer.bos_token_id
    ids = tokenizer("").input_ids
    return (bos,) if isinstance(bos, int) and ids[:1] == [bos] else ()


def _controls(added: dict[str, Any], template: str) -> bool:
    """Whether an added token acts as control: special, named by the template, or a tag.

    Others (runs of spaces, plain words) are mere vocabulary.
    """
    text = added["content"]
    if BYTE.fullmatch(text) or not text.strip():
        return bool(added["special"] and text.strip() and not BYTE.fullmatch(text))
    return bool(added["special"] or text in template or TAG.fullmatch(text))


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename control tokens inside the tokenizer's model, and drop the merges that make them."""
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(text, text): id_ for text, id_ in vocab.items()}
    elif isinstance(vocab, list):  # Unigram: [text, score], by id
        model["vocab"] = [[names.get(text, text), score] for text, score in vocab]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        model["merges"] = [pair for pair in pairs if not {*pair, "".join(pair)}.intersection(names)]
