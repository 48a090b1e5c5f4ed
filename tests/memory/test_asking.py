"""What a text asks, and whether it tells anything."""

import time

import pytest

from memory.asking import asks_about_asker, only_declines, subject


@pytest.mark.parametrize(
    ("query", "about_asker"),
    [
        ("What is my dog called?", True), ("Where do I work?", True), ("Did I tell you?", True),
        ("what breed is our dog", True), ("Remind me of my locker code.", True),
        ("내 고양이 이름이 뭐였지", True), ("제가 어디로 이사한다고 했죠?", True),
        ("What should I cook?", False), ("How are you today?", False), ("My dog is ill.", False),
        ("Tell me a joke.", False), ("하늘은 왜 파래?", False), ("hi", False), ("", False),
        ("나 어디 살아?", True),
        ("우리집 고양이 이름이 뭐야?", True),
        ("하나 더 있어?", False),
    ],
)  # fmt: skip
def test_questions_about_the_asker(query: str, about_asker: bool) -> None:
    assert asks_about_asker(query) is about_asker


@pytest.mark.parametrize(
    ("prompt", "about"),
    [
        ("What did I pay the lawyer? Answer in a few words.", "What did I pay the lawyer?"),
        ("Please answer briefly. What is my name?", "What is my name?"),
        ("when do i phone home Answer in a few words.", "when do i phone home"),
        ("where is my cat please answer in one word", "where is my cat"),
        ("what did he answer in the interview", "what did he answer in the interview"),
        ("여권 언제 만들었죠? 짧게 답해 줘.", "여권 언제 만들었죠?"),
        ("여권 만들러 간 게 며칠이었죠 한 문장으로 말해 주세요", "여권 만들러 간 게 며칠이었죠"),
        ("Answer in a few words.", "Answer in a few words."),
        ("짧게 답해 줘", "짧게 답해 줘"),
        (
            "I wrote a short answer. It was in English.",
            "I wrote a short answer. It was in English.",
        ),
        ("Tell me what Ann said in English.", "Tell me what Ann said in English."),
    ],
)
def test_how_to_answer_is_not_searched_for(prompt: str, about: str) -> None:
    assert subject(prompt) == about


def test_many_blanks_in_a_prompt_take_no_time() -> None:
    start = time.process_time()
    assert subject("강아지 이름이 뭐야" + " " * 50_000 + "짧게 답해 줘").strip().endswith("뭐야")
    assert subject("who is" + " " * 50_000 + "Ann").endswith("Ann")
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    "reply",
    [
        "You haven't told me his name.", "You never told me your brother's name.",
        "I don't know; nothing that I remember says so.", "That never came up.",
        "I don't have anything about that in my memory.", "Not mentioned.", "I don’t know.",
        "You didn't say where Kaj lives.", "Neither of them mentioned it: you have not told me.",
        "I can't find that in what I remember. Can you tell me?", "I'm not sure: I wasn't told.",
        "That isn't in anything I remember.", "I have no memory of that. Do you want to tell me?",
        "No information about that in my memory, sorry.", "Not in my memory.",
        "Nothing that I remember answers that.", "It was never mentioned, so I don't know.",
        "그건 제 기억에 없어요. 알려 주시면 기억해 둘게요.", "아직 들은 적이 없어요.",
    ],
)  # fmt: skip
def test_replies_that_only_decline(reply: str) -> None:
    assert only_declines(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Your brother is called Anselm.", "Got it, I'll remember that.", "걱정할 필요 없어요.",
        "I don't know a better place than the harbour.", "She said that it was blue.",
        "You didn't say when, so I noted 8 pm.",
        "You said that you moved to Linz.", "What I remember is that you moved to Linz.",
        "I'll keep it in memory.", "I'm not sure you would like it, but Linz is near.",
        "You never told me your shoe size, but with a foot of 26 cm it should be 41 or 42; take"
        " the larger one if you wear thick socks in winter.",
    ],
)  # fmt: skip
def test_replies_that_tell_something(reply: str) -> None:
    assert not only_declines(reply)
