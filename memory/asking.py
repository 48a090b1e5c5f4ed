"""What a text asks, and whether it tells anything, read from its words: English and Korean.

Pure functions over text. Whether a prompt seeks something, whether only its asker can have told it,
which of its sentences say what is sought; whether a turn is a question and nothing else, says what
another says, or says only that something isn't known.
"""

import re
import unicodedata
from functools import lru_cache

FOLDED_CHARS = 400  # longer turns are compared as they are: folding them all takes too long
QUESTION_CHARS = 160  # a longer turn that ends in a question mark also tells something
UNTOLD_CHARS = 120  # a longer reply that says what isn't known also tells something

# First words of a question.
_ASKING = frozenset(
    """
    what whats where wheres who whos whom whose when whens why how hows which do does did don didn
    is isn are aren was were can could would will won should shall have has had am may might tell
    and so but any remember
    """.split()
)
_ORDERING = frozenset(
    """
    remind recall list name give show find say repeat explain describe write translate
    summarise summarize recommend suggest draft compare help please tell
    """.split()
)
_ASKING_KOREAN = re.compile(
    "뭐|뭔|무엇|무슨|언제|어디|누구|누가|왜|어떻|어떤|얼마|몇|며칠|알려|말해|기억나"
)
_OWN = re.compile(
    r"\b(my|mine|our|ours|(do|did|am|was|have|had|were|are|must|can'?t|cannot) (i|we))\b"
    r"|(^|\s)(나|나는|난|나한테|내|내가|저는|전|제|제가|우리\w{0,2})(?=\s)"
)
_UNTOLD = re.compile(
    r"\b(haven['’]?t|hasn['’]?t|have not|has not|didn['’]?t|did not|wasn['’]?t|never) (been )?"
    r"(told|tell|said|say|mention|mentioned|name|named|give|given)\b"
    r"|\bnever came up\b|\bnot mentioned\b|\bi['’]m not sure(?=[.,;:!]|$)"
    r"|\bi (don['’]?t|do not) (know(?=[.,;:!]|$)|have anything about (that|this|it)\b)"
    r"|\bno (memory of|information about)\b|\bnot in my memory\b|\bnothing (that )?i remember\b"
    r"|\b(isn['’]?t in|can['’]?t find that in) (what|anything) (that )?i remember\b"
    r"|기억에 없|기억이 없|들은 적|듣지 못|말씀하신 적|말씀해 주신 적|모르겠"
)


_MANNER = re.compile(
    r"(please )?(just )?((answer|reply|respond|keep it|make it|say it)\b.*"
    r"\b(words?|sentences?|lines?|paragraphs?|short|shortly|brief|briefly|concise|concisely|simply"
    r"|detail|step by step|english|korean)\b.*|(be|keep it) (brief|short|concise)\b.*)"
)
_MANNER_KOREAN = re.compile(  # often behind a question without its question mark
    r"(?<!\s)\s+((한|두|세) )?(짧게|간단히|간단하게|간략히|문장으로|한마디로|자세히|자세하게"
    r"|한국어로|영어로)"
    r"\s*(답|대답|말|설명|얘기|이야기|알려|써)\S*(\s*(줘|줘요|주세요|줄래|달라)\S*)?[.!?~]*$"
)
_SENTENCES = re.compile(  # between two; what says how to answer may have no mark before it
    r"(?<=[.!?？。])\s+"
    r"|(?<!\s)(?<!please)(?<!just)\s+(?=(?:(?:please|just) )?"
    r"(?:(?-i:Answer|Reply|Respond|Keep it|Make it|Be)|(?:answer|reply|respond) (?:in|with)"
    r" (?:a|a few|one|two|three|\d+)) )",
    re.IGNORECASE,
)
_MANNER_WORDS = 8  # at most, of a sentence that only says how to answer


def subject(prompt: str) -> str:
    """A prompt without the sentences that only say how to answer: "Answer in a few words."

    They say nothing about what is sought, and are near to others of their kind.
    """
    sentences = _SENTENCES.split(_MANNER_KOREAN.sub("", " " + prompt).strip())
    kept = [
        sentence
        for sentence in sentences
        if len(sentence.split()) > _MANNER_WORDS or not _MANNER.fullmatch(fold(sentence))
    ]
    return " ".join(kept) or prompt


def asks_about_asker(query: str) -> bool:
    """Whether a prompt asks for what only its asker can have told: "What is my …", "Did I …"."""
    return asks(query) and speaks_of_asker(query)


def speaks_of_asker(query: str) -> bool:
    """Whether a prompt names what is its asker's own: "my", "our", "did I", 내가."""
    return _OWN.search(fold(query)) is not None


def asks(query: str) -> bool:
    """Whether a prompt asks for something: a question mark, or a first word that asks."""
    if "?" in query or "？" in query or _ASKING_KOREAN.search(fold(query)):
        return True
    first = re.search(r"[^\W_]+", fold(query))
    return first is not None and first[0] in _ASKING | _ORDERING


def only_asks(text: str) -> bool:
    """Whether a text ends in a question and is too short to tell much before it."""
    return len(text) < QUESTION_CHARS and ends_asking(text)


def ends_asking(text: str) -> bool:
    """Whether a question mark ends a text."""
    return text.rstrip().endswith(("?", "？"))


def is_question(text: str) -> bool:
    """Whether the text is one question or order and nothing else.

    One that begins by telling is none: "I paid 340 for that bike, can you believe it?", nor is one
    that says what to keep in mind: "Remember that I paid 340."
    """
    if len(text) >= QUESTION_CHARS or re.search(r"[.!?？…]\s", text.strip()):
        return False
    first = re.search(r"[^\W_]+", re.sub(r"^\W*please\b", "", fold(text)))
    if first is None or first[0] in _ORDERING:
        return first is not None
    return only_asks(text) and (first[0] in _ASKING or "가" <= first[0][0] <= "힣")


def only_declines(text: str) -> bool:
    """Whether a reply only says that it isn't known ("You never told me his name."): any that has
    words for that, is short and has no number."""
    short = len(text) <= UNTOLD_CHARS and not re.search(r"\d", text)
    return short and _UNTOLD.search(fold(text)) is not None


def repeats(text: str, query: str) -> bool:
    """Whether a text says or asks the same as a query, but for case, spaces and the last mark."""
    return said(text).rstrip("? ") == said(query).rstrip("? ")


@lru_cache(maxsize=4096)
def said(text: str) -> str:
    """What two turns that say the same have in common; long ones must be equal to the letter."""
    if len(text) > FOLDED_CHARS:
        return text
    return " ".join(fold(text).split()).rstrip(" .!…")


def fold(text: str) -> str:
    """Composed (NFC) and without case."""
    return unicodedata.normalize("NFC", text).casefold()
