"""What looks like a secret in a text: keys and tokens of services, private keys, card numbers.

Knows texts only. It finds what tells by its form: a prefix that its issuer gives to all its keys
(as GitHub's list of supported secret scanning patterns and the issuers' own pages give them), a
key that is called one, a private key's first line, the password in an address, and card numbers
(ISO/IEC 7812-1: length and first digits of each network, and the check digit of its annex B, known
as Luhn's). A password in plain words can't be told from any other word, and isn't found.

In a text without any of it next to nothing is done: a rule's pattern is compiled and tried only
where a few characters hint at it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

CARD, KEY = "card number", "key or token"
LEFT_OUT = "[{} left out]"  # what stands in the place of a secret
DISTINCT = 8  # different characters that a key has at least: `sk-xxxx…` is none


@dataclass(frozen=True, slots=True)
class Secret:
    """What looks like a secret, `text[start:end]`."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Secret]:
    """What looks like a secret in `text`, from its beginning on; none overlaps another."""
    found: list[Secret] = []
    taken = bytearray(len(text))
    for secret in _candidates(text):
        if taken.find(1, secret.start, secret.end) < 0:
            taken[secret.start : secret.end] = b"\1" * (secret.end - secret.start)
            found.append(secret)
    return sorted(found, key=lambda secret: secret.start)


def kinds(text: str) -> tuple[str, ...]:
    """The kinds of secrets in `text`, each once."""
    return tuple(dict.fromkeys(secret.kind for secret in find(text)))


def mask(text: str) -> str:
    """`text` with a note of its kind in the place of each secret."""
    parts, at = [], 0
    for secret in find(text):
        parts += [text[at : secret.start], LEFT_OUT.format(secret.kind)]
        at = secret.end
    return "".join([*parts, text[at:]])


def named(kinds_: tuple[str, ...]) -> str:
    """Kinds in words: `an AWS access key and a card number`."""
    return " and ".join(f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}" for kind in kinds_)


# -- keys -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """A kind, characters of which one is in every text that has it, the pattern (its group 1 is
    the secret, if it has one), and what else must hold of the secret."""

    kind: str
    hints: tuple[str, ...]
    pattern: str
    holds: Callable[[str], bool]
    whole: bool = True  # the secret is a word of its own


def _drawn(key: str) -> bool:
    """Whether a key may have been drawn at random, and isn't a place for one, as `sk-your-key`."""
    mixed = any(c.isdigit() for c in key) or (key != key.lower() and key != key.upper())
    return mixed and _many(key)


def _many(key: str) -> bool:
    return len(set(key)) >= DISTINCT


def _unworded(key: str) -> bool:
    """Whether a key is more than words and numbers put together, as `drawer-number-12`."""
    digits = sum(c.isdigit() for c in key)
    words = r"(?:[A-Za-z]+\d{0,4}|\d+)"
    worded = re.fullmatch(rf"[-_/+=]*{words}(?:[-_/+=]+{words})*[-_/+=]*", key)
    return _drawn(key) and digits >= 2 and not worded


def _password(word: str) -> bool:
    """Whether the password in an address is one, and no place for it."""
    named_ = re.fullmatch(r"(?i)pass(?:word|wd)?|pwd?|secret|token|비밀번호|암호", word)
    return not named_ and word[0] not in "$<{[*%" and len(set(word)) > 2


_CALLED = (
    r"(?:(?:api|access|secret|auth|client|service|app|bot|encryption|refresh)[ _-]?"
    r"(?:access[ _-]?)?(?:key|token|secret)|bearer"
    r"|(?:api|액세스|접근|시크릿|비밀|인증|서비스)[ _-]?(?:키|토큰))"
)
_IS = r"[\"'`]?\s{0,3}(?:(?:is|are|was)(?![A-Za-z0-9_])|=>|[:=]|은|는|이|가)?\s{0,3}[\"'`]?"

_RULES = (
    _Rule(
        "private key",
        ("PRIVATE KEY",),
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[^-]|-(?!----)){1,20000}-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        r"|(?:\s+[A-Za-z0-9+/=]{16,})+|\s*\Z)",
        lambda _: True,
        whole=False,
    ),
    _Rule("AWS access key", ("AKIA", "ASIA"), r"(?:AKIA|ASIA)[A-Z2-7]{16}", _many),
    _Rule(
        "GitHub token",
        ("gh", "github_pat_"),
        r"(?:gh[pousr]_[A-Za-z0-9_]{36,255}|github_pat_[A-Za-z0-9_]{36,255})",
        _drawn,
    ),
    _Rule(
        "GitLab token",
        ("gl",),
        r"gl(?:pat|oas|dt|rt|rtr|cbt|ptt|soat)-[A-Za-z0-9_-]{20,300}"
        r"(?:\.[a-z0-9]{2}\.[a-z0-9]{9})?",
        _drawn,
    ),
    _Rule("Anthropic API key", ("sk-ant-",), r"sk-ant-[A-Za-z0-9_-]{20,250}", _drawn),
    _Rule(
        "OpenAI API key",
        ("sk-proj-", "sk-svcacct-", "sk-admin-", "T3BlbkFJ"),
        r"sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,250}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
        _drawn,
    ),
    _Rule("API key", ("sk-",), r"sk-[A-Za-z0-9_-]{20,250}", _unworded),
    _Rule("Google API key", ("AIza",), r"AIza[A-Za-z0-9_-]{35}", _drawn),
    _Rule("Google client secret", ("GOCSPX-",), r"GOCSPX-[A-Za-z0-9_-]{28}", _drawn),
    _Rule(
        "Slack token",
        ("xox", "xapp-"),
        r"(?:xox[abceoprs]|xapp|xoxe\.xox[bp])-[A-Za-z0-9-]{16,250}",
        _drawn,
    ),
    _Rule(
        "Slack webhook",
        ("hooks.slack.com",),
        r"hooks\.slack\.com/(?:services|workflows)/([A-Za-z0-9/_]{24,200})",
        _drawn,
        whole=False,
    ),
    _Rule("Stripe key", ("_live_", "_test_"), r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}", _drawn),
    _Rule("Stripe webhook secret", ("whsec_",), r"whsec_[A-Za-z0-9+/]{24,100}", _drawn),
    _Rule("Hugging Face token", ("hf_",), r"hf_[A-Za-z0-9]{30,60}", _drawn),
    _Rule("npm token", ("npm_",), r"npm_[A-Za-z0-9]{36}", _drawn),
    _Rule("PyPI token", ("pypi-AgE",), r"pypi-AgE[A-Za-z0-9_-]{50,500}", _drawn),
    _Rule("SendGrid key", ("SG.",), r"SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}", _drawn),
    _Rule("Twilio key", ("SK",), r"SK[0-9a-f]{32}", _drawn),
    _Rule("DigitalOcean token", ("_v1_",), r"do[opr]_v1_[0-9a-f]{64}", _drawn),
    _Rule("Shopify token", ("shp",), r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", _drawn),
    _Rule("Databricks token", ("dapi",), r"dapi[0-9a-f]{32}(?:-\d)?", _drawn),
    _Rule("Telegram bot token", (":AA",), r"\d{8,10}:AA[A-Za-z0-9_-]{33}", _drawn),
    _Rule(
        "Discord token",
        (".",),
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}",
        _drawn,
    ),
    _Rule(
        "Azure key",
        ("AccountKey=", "AccessKey="),
        r"(?:Account|SharedAccess)Key=([A-Za-z0-9+/]{43,86}={1,2})",
        _drawn,
        whole=False,
    ),
    _Rule("age key", ("AGE-SECRET-KEY-1",), r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}", _drawn),
    _Rule(
        "JSON Web Token",
        ("eyJ",),
        r"eyJ[A-Za-z0-9_-]{10,5000}\.eyJ[A-Za-z0-9_-]{10,5000}\.[A-Za-z0-9_-]{10,5000}",
        _drawn,
    ),
    _Rule(
        "password",
        ("://",),
        r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@]{0,64}:([^\s:/@]{3,128})@[\w\[]",
        _password,
        whole=False,
    ),
    _Rule(
        KEY,
        ("key", "token", "secret", "bearer", "키", "토큰"),
        rf"(?i){_CALLED}{_IS}([A-Za-z0-9_+/=-]{{16,500}})",
        _unworded,
        whole=False,
    ),
)

KINDS = (*(rule.kind for rule in _RULES), CARD)

_NOT_BEFORE, _NOT_AFTER = r"(?<![A-Za-z0-9_-])", r"(?![A-Za-z0-9_-])"


# Which rules a hint is for; those of KEY are looked for in lower case.
_HINTS = tuple(
    (hint, number) for number, rule in enumerate(_RULES) if rule.kind != KEY for hint in rule.hints
)


def _candidates(text: str) -> Iterator[Secret]:
    """The surest kinds first."""
    hinted = {number for hint, number in _HINTS if hint in text}
    lowered = text.lower()
    if any(hint in lowered for hint in _RULES[-1].hints):
        hinted.add(len(_RULES) - 1)
    for number in sorted(hinted):
        rule = _RULES[number]
        for match in _pattern(number).finditer(text):
            start, end = match.span(match.lastindex or 0)
            if rule.holds(text[start:end]):
                yield Secret(rule.kind, start, end)
    if _DIGITS.search(text):
        for match in _card_pattern().finditer(text):
            # Three digits behind four groups may be the number's end, or the code on its back.
            for end in (match.end(), match.end("sixteen")):
                if end > 0 and _is_card(text[match.start() : end]):
                    yield Secret(CARD, match.start(), end)
                    break


@cache
def _pattern(number: int) -> re.Pattern[str]:
    rule = _RULES[number]
    return re.compile(_NOT_BEFORE + rule.pattern + _NOT_AFTER if rule.whole else rule.pattern)


# -- card numbers ---------------------------------------------------------------------------------

# The first digits, from and to, that a network gives out, and how many digits its numbers have.
# 13-digit Visa numbers have long been replaced, and would be met among parcel numbers.
_NETWORKS = (
    ("4", "4", (16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, 16, 19)),  # Diners Club
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16, 19)),
    ("3528", "3589", (16, 19)),  # JCB
    ("6011", "6011", (16, 19)),  # Discover
    ("644", "659", (16, 19)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("9", "9", (16,)),  # cards for one country, as Korea's: told only by their groups, too
)


_BETWEEN = r"[ \u00a0\u2010-\u2015-]"  # groups of digits
_DIGITS = re.compile(rf"\d(?:{_BETWEEN}?\d){{13}}")


@cache
def _card_pattern() -> re.Pattern[str]:
    """Digits in one run, or in the groups that cards have; in the midst of more digits is none."""
    between = _BETWEEN
    return re.compile(
        rf"(?<![A-Za-z0-9_.,/=-])(?<!\d{{4}}{between})"
        rf"(?:\d{{14,19}}|(?P<sixteen>\d{{4}}(?P<by>{between})\d{{4}}(?P=by)\d{{4}}(?P=by)\d{{4}})"
        rf"(?:(?P=by)\d{{1,3}})?|\d{{4}}{between}\d{{6}}{between}\d{{4,5}})"
        rf"(?![A-Za-z0-9_]|{between}\d{{4}}|[.,/]\d)"
    )


def _is_card(number: str) -> bool:
    digits = "".join(str(int(c)) for c in number if c.isdigit())  # full-width ones, too
    known = any(
        first <= digits[: len(first)] <= last and len(digits) in lengths
        for first, last, lengths in _NETWORKS
    )
    if digits[0] == "9" and len(number) == len(digits):
        return False
    return known and len(set(digits)) > 2 and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[::-2]))) % 10 == 0
