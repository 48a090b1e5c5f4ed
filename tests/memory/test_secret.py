"""What looks like a key or card number: found in English and Korean, and in nothing else.

No key stands in this file: they are drawn, each as its issuer makes them.
"""

import random
import string
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memory.secret import CARD, KEY, find, kinds, luhn, mask, named

ROOT = Path(__file__).parents[2]
LETTERS, DIGITS, HEX = string.ascii_letters, string.digits, "0123456789abcdef"
MIXED = LETTERS + DIGITS
DRAW = random.Random()
SAID = (
    "{}",
    "my key is {}, keep it for me",
    "Use ({}).",
    "이거 {}이야, 기억해 둬",
    "배포할 때는 {}를 써",
    'export KEY="{}"\nthen run it',
)


@pytest.fixture(autouse=True)
def the_same_draw() -> None:
    """Whichever tests run, and in whatever order: each draws the same."""
    DRAW.seed(20261122)


def drawn(count: int, letters: str = MIXED) -> str:
    return "".join(DRAW.choices(letters, k=count))


MADE: dict[str, list[Callable[[], str]]] = {
    "AWS access key": [lambda: "AKIA" + drawn(16, string.ascii_uppercase + "234567")],
    "GitHub token": [
        lambda: "ghp_" + drawn(36),
        lambda: f"github_pat_{drawn(22)}_{drawn(59)}",
    ],
    "GitLab token": [
        lambda: "glpat-" + drawn(20),
        lambda: f"glpat-{drawn(27)}.01.{drawn(9, HEX)}",
    ],
    "Anthropic API key": [lambda: f"sk-ant-api03-{drawn(93, MIXED + '-_')}AA"],
    "OpenAI API key": [
        lambda: f"sk-proj-{drawn(74)}T3BlbkFJ{drawn(74)}",
        lambda: f"sk-{drawn(20)}T3BlbkFJ{drawn(20)}",
    ],
    "API key": [lambda: "sk-" + drawn(32, HEX)],
    "Google API key": [lambda: f"AIza{drawn(34, MIXED + '-_')}Q"],
    "Google client secret": [lambda: "GOCSPX-" + drawn(28)],
    "Slack token": [lambda: f"xoxb-{drawn(12, DIGITS)}-{drawn(12, DIGITS)}-{drawn(24)}"],
    "Stripe key": [lambda: "sk_live_" + drawn(24), lambda: "rk_test_" + drawn(99)],
    "Stripe webhook secret": [lambda: "whsec_" + drawn(32)],
    "Hugging Face token": [lambda: "hf_" + drawn(34, LETTERS)],
    "npm token": [lambda: "npm_" + drawn(36)],
    "PyPI token": [lambda: "pypi-AgEIcHlwaS5vcmc" + drawn(140, MIXED + "-_") + "A"],
    "SendGrid key": [lambda: f"SG.{drawn(22)}.{drawn(43)}"],
    "Twilio key": [lambda: "SK" + drawn(32, HEX)],
    "DigitalOcean token": [lambda: "dop_v1_" + drawn(64, HEX)],
    "Shopify token": [lambda: "shpat_" + drawn(32, HEX)],
    "Databricks token": [lambda: "dapi" + drawn(32, HEX)],
    "Telegram bot token": [lambda: f"{drawn(10, DIGITS)}:AA{drawn(33)}"],
    "Discord token": [lambda: f"MT{drawn(24)}.{drawn(6)}.{drawn(38)}"],
    "age key": [lambda: "AGE-SECRET-KEY-1" + drawn(58, "023456789ACDEFGHJKLMNPQRSTUVWXYZ")],
    "JSON Web Token": [lambda: f"eyJ{drawn(30)}.eyJ{drawn(90)}.{drawn(42, MIXED + '-_')}A"],
    "private key": [
        lambda: (
            "-----BEGIN RSA PRIVATE KEY-----\n"
            + "".join(f"{drawn(64)}\n" for _ in range(5))
            + "-----END RSA PRIVATE KEY-----"
        ),
        lambda: "-----BEGIN PRIVATE KEY-----\n" + drawn(64),
        lambda: (
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC\n\n"
            f"{drawn(64)}\n{drawn(22)}==\n-----END EC PRIVATE KEY-----"
        ),
    ],
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("said", SAID)
def test_a_key_is_found_by_the_form_its_issuer_gives_it(kind: str, said: str) -> None:
    for make in MADE[kind] * 20:
        key = make()
        text = said.format(key)
        (secret,) = find(text)
        assert (secret.kind, text[secret.start : secret.end]) == (kind, key)
        assert mask(text) == said.format(f"[{kind} left out]")


@pytest.mark.parametrize(
    "said",
    [
        "my api key is {}",
        "API_KEY={}",
        'aws_secret_access_key = "{}"',
        "the Client Secret: {} and that's all",
        "Authorization: Bearer {}",
        "API 키는 {} 이야",
        "공공데이터 인증키: {}",
        "액세스 토큰은 {}입니다",
        "서비스키 {}",
    ],
)
def test_a_key_is_found_that_is_called_one(said: str) -> None:
    for _ in range(50):
        for key in (
            drawn(32, HEX),
            drawn(40),
            str(uuid.UUID(int=DRAW.getrandbits(128), version=4)),
        ):
            if sum(c.isdigit() for c in key) >= 2:
                assert mask(said.format(key)) == said.format(f"[{KEY} left out]"), said.format(key)


def test_the_password_in_an_address_is_found_and_the_rest_stays() -> None:
    text = "connect to postgres://anna:{}@db.home:5432/shop 로 접속해"
    assert mask(text.format("t0psecret!")) == text.format("[password left out]")
    assert kinds(text.format("password")) == kinds(text.format("<비밀번호>")) == ()
    azure = f"AccountName=a;AccountKey={drawn(86)}==;EndpointSuffix=core.windows.net"
    assert mask(azure) == "AccountName=a;AccountKey=[Azure key left out];EndpointSuffix=" + (
        "core.windows.net"
    )


# -- card numbers ---------------------------------------------------------------------------------

NETWORKS = (
    *[("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15)],
    *[("36", 14), ("305", 14), ("3528", 16), ("3589", 16), ("6011", 16), ("65", 16)],
    *[("62", 16), ("62", 19), ("4", 19)],
)


def test_a_card_number_is_found_beside_its_code_and_behind_a_particle() -> None:
    for first, length in NETWORKS:
        number = grouped(card(first, length), " ")
        while luhn(number.replace(" ", "") + "737"):  # with its code a card number of 19 digits
            number = grouped(card(first, length), " ")
        for said in ("{} 737 exp 12/27", "카드번호는{}", "{} 12 27") if length == 16 else ():
            assert mask(said.format(number)) == said.format("[card number left out]")


def card(first: str, length: int) -> str:
    digits = first + drawn(length - len(first) - 1, DIGITS)
    return next(digits + last for last in DIGITS if luhn(digits + last))


def grouped(digits: str, by: str) -> str:
    cuts = (4, 8, 12, 16) if len(digits) >= 16 else (4, 10)
    parts = [digits[a:b] for a, b in zip((0, *cuts), (*cuts, None), strict=True)]
    return by.join(filter(None, parts))


@pytest.mark.parametrize(("first", "length"), NETWORKS)
def test_card_numbers_are_found_however_they_are_written(first: str, length: int) -> None:
    for _ in range(20):
        digits = card(first, length)
        for number in (
            digits,
            grouped(digits, " "),
            grouped(digits, "-"),
            grouped(digits, "\u00a0"),
        ):
            for said in (
                "My card is {}.",
                "{} 12/29 123",
                "카드번호는 {}이고 유효기간은 12/29",
                "({})",
            ):
                assert mask(said.format(number)) == said.format(f"[{CARD} left out]")


def test_numbers_for_korea_only_and_full_width_digits() -> None:
    local = card("9410", 16)
    assert kinds(f"국민카드 {grouped(local, '-')}") == (CARD,)
    wide = str.maketrans(DIGITS, "０１２３４５６７８９")
    assert kinds(f"카드 {grouped(card('4', 16), '-').translate(wide)}") == (CARD,)


def test_a_wrong_check_digit_is_no_card() -> None:
    for first, length in NETWORKS:
        digits = card(first, length)
        while length > 16 and luhn(digits[:16]):  # a card number, and a code behind it
            digits = card(first, length)
        wrong = digits[:-1] + str((int(digits[-1]) + 1) % 10)
        assert kinds(f"my card is {wrong}") == kinds(f"카드는 {grouped(wrong, ' ')}") == ()


def test_the_check_digit_is_that_of_the_standard() -> None:
    assert luhn("79927398713") and luhn("4111111111111111")
    assert not any(luhn(f"7992739871{last}") for last in "012456789")


# -- what is none ---------------------------------------------------------------------------------


def test_no_line_of_the_dialogues_is_taken_for_a_secret() -> None:
    count = 0
    for path in sorted((ROOT / "data" / "dialogues").iterdir()):
        for line in path.read_text("utf-8").splitlines():
            count += 1
            assert find(line) == [], f"{path.name}: {line}"
    assert count > 25_000


def date() -> datetime:
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=DRAW.randrange(10**9))


ORDINARY: dict[str, Callable[[], str]] = {
    "phone": lambda: DRAW.choice(
        [
            f"010-{drawn(4, DIGITS)}-{drawn(4, DIGITS)}",
            f"+82 10 {drawn(4, DIGITS)} {drawn(4, DIGITS)}",
            f"+1 (415) {drawn(3, DIGITS)}-{drawn(4, DIGITS)}",
            f"+44 20 {drawn(4, DIGITS)} {drawn(4, DIGITS)}",
            f"02-{drawn(4, DIGITS)}-{drawn(4, DIGITS)} 010-{drawn(4, DIGITS)}-{drawn(4, DIGITS)}",
        ]
    ),
    "date": lambda: DRAW.choice(
        [
            f"{date():%Y-%m-%d %H:%M:%S}",
            f"{date():%Y%m%d%H%M%S}",
            f"{date():%Y%m%d-%H%M%S%f}",
            f"{date().timestamp():.0f}",
            f"{date().timestamp() * 1e9:.0f}",
            f"{date():%Y년 %m월 %d일 %H시}",
            date().isoformat(),
        ]
    ),
    "order": lambda: DRAW.choice(
        [
            f"{date():%Y%m%d}{drawn(8, DIGITS)}",
            f"{date():%Y%m%d}-{drawn(7, DIGITS)}",
            f"112-{drawn(7, DIGITS)}-{drawn(7, DIGITS)}",
            f"#{drawn(6, DIGITS)}",
            drawn(12, DIGITS),
            drawn(13, DIGITS),
            f"1Z{drawn(16, string.ascii_uppercase + DIGITS)}",
            f"9400 1{drawn(3, DIGITS)} {drawn(4, DIGITS)} {drawn(4, DIGITS)} {drawn(4, DIGITS)} 00",
        ]
    ),
    "account": lambda: f"{drawn(3, DIGITS)}-{drawn(3, DIGITS)}-{drawn(6, DIGITS)}",
    "uuid": lambda: str(uuid.UUID(int=DRAW.getrandbits(128), version=4)),
    "hash": lambda: drawn(DRAW.choice([7, 8, 40, 64]), HEX),
    "book": lambda: (
        f"978-{drawn(1, DIGITS)}-{drawn(4, DIGITS)}-{drawn(4, DIGITS)}-{drawn(1, DIGITS)}"
    ),
    "address": lambda: f"https://www.example.org/{drawn(12)}/{drawn(8, DIGITS)}?id={drawn(22)}",
    "machine": lambda: ".".join(str(DRAW.randrange(256)) for _ in range(4)),
    "file": lambda: f"report-{date():%Y-%m-%d}-{drawn(6)}.pdf",
    "amount": lambda: f"{DRAW.randrange(10**12):,}원, {DRAW.randrange(10**6) / 100} euros",
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_numbers_and_ids_are_none(kind: str) -> None:
    for _ in range(3000):
        for said in ("It is {}, I think.", "주문번호는 {}이고 내일 와", "commit {}"):
            text = said.format(ORDINARY[kind]())
            assert find(text) == [], text


def test_of_long_numbers_that_are_no_cards_few_are_taken_for_one() -> None:
    """Sixteen digits drawn at random are a card's in all but use, one time in forty or so."""
    runs = [drawn(16, DIGITS) for _ in range(20_000)]
    assert sum(bool(find(f"order {run}")) for run in runs) / len(runs) < 0.035


@pytest.mark.parametrize(
    "text",
    [
        "sk-your-api-key-goes-here",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "put AKIAXXXXXXXXXXXXXXXX there",
        "the api key is in the drawer-number-12-left",
        "my secret: I was born in Gwangju-si-2-dong",
        "the token is on page 12 of the book",
        "API 키는 어디서 발급받아?",
        "비밀키가 뭐야? 공개키랑 뭐가 달라?",
        "0000 0000 0000 0000 and 4444-4444-4444-4444",
        "what does -----BEGIN PRIVATE KEY----- at the top of the file mean?",
        "http://localhost:8080/@home and mailto:anna@example.org",
        "disk-1234567890abcdefghij is a name",
        "",
    ],
)
def test_places_for_keys_and_talk_about_them_are_none(text: str) -> None:
    assert find(text) == []


# -- several --------------------------------------------------------------------------------------


def test_several_are_named_and_left_out_each() -> None:
    aws, number = MADE["AWS access key"][0](), grouped(card("4", 16), " ")
    text = f"키는 {aws}, 카드는 {number}, 다시 {aws}"
    assert kinds(text) == ("AWS access key", CARD)
    assert named(kinds(text)) == "an AWS access key and a card number"
    key = "[AWS access key left out]"
    assert mask(text) == f"키는 {key}, 카드는 [card number left out], 다시 {key}"
    assert mask(mask(text)) == mask(text)


def test_a_megabyte_of_them_is_left_out_whole() -> None:
    numbers = [grouped(card("4", 16), " ") for _ in range(50_000)]
    assert mask(", ".join(numbers)) == ", ".join([f"[{CARD} left out]"] * len(numbers))
