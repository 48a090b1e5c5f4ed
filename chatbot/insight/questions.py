"""What nobody writes down: 31 questions with an impossible or trivial answer, in two languages.

The first is the talk's own. Replies to a question are one sentence that differs in a word or two,
so that a long answer isn't held against another, and the right one stands first here. It is "none"
or "no" about every second time only: a model that denies everything isn't right by that alone.
Data for limits.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the replies to choose from, the right one first."""

    text: str
    replies: tuple[str, ...]


def _ask(text: str, sentence: str, *words: str) -> Question:
    return Question(text, tuple(sentence.format(word) for word in words))


ENGLISH = (
    _ask("How many feet does the sun have?", "The sun has {} feet.", "no", "two", "four", "eight"),
    _ask("How many eyes does a chair have?", "A chair has {} eyes.", "no", "two", "four", "six"),
    _ask("How many legs does a river have?", "A river has {} legs.", "no", "two", "four", "six"),
    _ask(
        "How many wings does a bicycle have?",
        "A bicycle has {} wings.",
        *("no", "two", "four", "six"),
    ),
    _ask(
        "How many children does a door have?",
        "A door has {} children.",
        *("no", "two", "three", "four"),
    ),
    _ask(
        "How many hearts does a cloud have?",
        "A cloud has {} hearts.",
        *("no", "two", "three", "four"),
    ),
    _ask(
        "How many brothers does the number seven have?",
        "The number seven has {} brothers.",
        *("no", "two", "three", "six"),
    ),
    _ask(
        "What colour is the smell of coffee?",
        "The smell of coffee has {} colour.",
        *("no", "a brown", "a black", "a red"),
    ),
    _ask(
        "What does the moon eat for breakfast?",
        "The moon eats {} for breakfast.",
        *("nothing", "bread", "cheese", "rice"),
    ),
    _ask(
        "How much does a shadow weigh?",
        "A shadow weighs {}.",
        *("nothing", "one kilogram", "ten kilograms", "fifty kilograms"),
    ),
    _ask(
        "How many horses fit into a teacup?",
        "{} horses fit into a teacup.",
        *("No", "Two", "Four", "Ten"),
    ),
    _ask(
        "Which hand does a snake write with?",
        "A snake writes with {}.",
        *("no hand", "its left hand", "its right hand", "both hands"),
    ),
    _ask(
        "I have one apple, and I eat it. How many apples do I have now?",
        "You have {} apples now.",
        *("no", "two", "three", "ten"),
    ),
    _ask("Which is heavier, a mountain or a spoon?", "The {} is heavier.", "mountain", "spoon"),
    _ask("Which is bigger, a whale or its tooth?", "The {} is bigger.", "whale", "tooth"),
    _ask("Who is older, a mother or her child?", "The {} is older.", "mother", "child"),
    _ask("Which is softer, a knife or a pillow?", "The {} is softer.", "pillow", "knife"),
    _ask(
        "A cup of hot tea stands on the table. Does it get hotter or colder?",
        "It gets {}.",
        *("colder", "hotter"),
    ),
    _ask(
        "I put my shoes into the fridge and went to bed. Where are my shoes?",
        "Your shoes are {}.",
        *("in the fridge", "on your feet", "at the door", "in the garden"),
    ),
    _ask(
        "I am in the kitchen. Where is my head?",
        "Your head is {}.",
        *("in the kitchen", "in the bedroom", "in the garden", "in the car"),
    ),
    _ask(
        "I cut a rope once, through the middle. How many pieces are there?",
        "There are {} pieces.",
        *("two", "no", "five", "ten"),
    ),
    _ask(
        "How many times is a person born?",
        "A person is born {}.",
        *("once", "twice", "three times", "ten times"),
    ),
    _ask(
        "It rains, and I stand outside without an umbrella. How does my hair get?",
        "Your hair gets {}.",
        *("wet", "dry", "hot", "long"),
    ),
    _ask("A stone lies in the lake. Is it wet or dry?", "The stone is {}.", "wet", "dry"),
    _ask("Can a table feel sad?", "{} feel sad.", "No, a table can't", "Yes, a table can"),
    _ask(
        "Can a fish lock a door with a key?",
        "{} lock a door with a key.",
        *("No, a fish can't", "Yes, a fish can"),
    ),
    _ask(
        "My brother is fast asleep. Is he reading a book?",
        "{} reading a book.",
        *("No, he isn't", "Yes, he is"),
    ),
    _ask(
        "Does my left shoe know my name?",
        "{} your name.",
        *("No, your left shoe doesn't know", "Yes, your left shoe knows"),
    ),
    _ask(
        "Does a coin fit into my pocket?",
        "{} into your pocket.",
        *("Yes, a coin fits", "No, a coin doesn't fit"),
    ),
    _ask(
        "Does a man with an umbrella have a nose?",
        "{} a nose.",
        *("Yes, he has", "No, he doesn't have"),
    ),
    _ask(
        "I am hungry. I look at a picture of bread for an hour. Am I still hungry?",
        "{} hungry.",
        *("Yes, you are still", "No, you are no longer"),
    ),
)

_COUNTED = ("없습니다", "두 개 있습니다", "네 개 있습니다", "여덟 개 있습니다")

KOREAN = (
    _ask("태양에는 발이 몇 개 있지?", "태양에는 발이 {}.", *_COUNTED),
    _ask("의자에는 눈이 몇 개 있지?", "의자에는 눈이 {}.", *_COUNTED),
    _ask("강에는 다리가 아니라 발이 몇 개 달려 있지?", "강에는 발이 {}.", *_COUNTED),
    _ask("자전거에는 날개가 몇 개 있지?", "자전거에는 날개가 {}.", *_COUNTED),
    _ask(
        "문에게는 자식이 몇 명 있지?",
        "문에게는 자식이 {}.",
        *("없습니다", "두 명 있습니다", "세 명 있습니다", "네 명 있습니다"),
    ),
    _ask("구름에는 심장이 몇 개 있지?", "구름에는 심장이 {}.", *_COUNTED),
    _ask(
        "숫자 7에게는 형제가 몇 명 있지?",
        "숫자 7에게는 형제가 {}.",
        *("없습니다", "두 명 있습니다", "세 명 있습니다", "여섯 명 있습니다"),
    ),
    _ask(
        "커피 향기는 무슨 색이지?",
        "커피 향기는 {}.",
        *("색이 없습니다", "갈색입니다", "검은색입니다", "빨간색입니다"),
    ),
    _ask(
        "달은 아침으로 무엇을 먹지?",
        "달은 아침으로 {}.",
        *("아무것도 먹지 않습니다", "빵을 먹습니다", "치즈를 먹습니다", "밥을 먹습니다"),
    ),
    _ask(
        "그림자는 무게가 얼마나 되지?",
        "그림자는 무게가 {}.",
        *("없습니다", "1킬로그램입니다", "10킬로그램입니다", "50킬로그램입니다"),
    ),
    _ask(
        "찻잔 안에 말이 몇 마리 들어가지?",
        "찻잔 안에는 말이 {}.",
        *("들어가지 않습니다", "두 마리 들어갑니다", "네 마리 들어갑니다", "열 마리 들어갑니다"),
    ),
    _ask(
        "뱀은 어느 손으로 글씨를 쓰지?",
        "뱀은 {}.",
        *("손이 없습니다", "왼손으로 씁니다", "오른손으로 씁니다", "두 손으로 씁니다"),
    ),
    _ask(
        "사과가 하나 있었는데 내가 먹었어. 이제 사과가 몇 개 있지?",
        "이제 사과가 {}.",
        *("없습니다", "두 개 있습니다", "세 개 있습니다", "열 개 있습니다"),
    ),
    _ask("산과 숟가락 중 어느 것이 더 무겁지?", "{} 더 무겁습니다.", "산이", "숟가락이"),
    _ask("고래와 고래의 이빨 중 어느 것이 더 크지?", "{} 더 큽니다.", "고래가", "이빨이"),
    _ask(
        "어머니와 그 아이 중 누가 더 나이가 많지?", "{} 더 나이가 많습니다.", "어머니가", "아이가"
    ),
    _ask("칼과 베개 중 어느 것이 더 부드럽지?", "{} 더 부드럽습니다.", "베개가", "칼이"),
    _ask(
        "식탁 위에 뜨거운 차가 한 잔 있어. 차는 더 뜨거워질까, 식을까?",
        "차는 {}.",
        *("식습니다", "더 뜨거워집니다"),
    ),
    _ask(
        "신발을 냉장고에 넣고 잤어. 내 신발은 어디에 있지?",
        "신발은 {} 있습니다.",
        *("냉장고 안에", "발에", "문 앞에", "정원에"),
    ),
    _ask(
        "나는 지금 부엌에 있어. 내 머리는 어디에 있지?",
        "머리는 {} 있습니다.",
        *("부엌에", "침실에", "정원에", "차에"),
    ),
    _ask(
        "밧줄을 가운데에서 한 번 잘랐어. 몇 조각이 되었지?",
        "{} 조각이 되었습니다.",
        *("두", "네", "다섯", "열"),
    ),
    _ask(
        "사람은 몇 번 태어나지?",
        "사람은 {} 태어납니다.",
        *("한 번", "두 번", "세 번", "열 번"),
    ),
    _ask(
        "비가 오는데 우산 없이 밖에 서 있어. 내 머리카락은 어떻게 되지?",
        "머리카락이 {}.",
        *("젖습니다", "마릅니다", "뜨거워집니다", "길어집니다"),
    ),
    _ask(
        "돌이 호수 속에 있어. 돌은 젖어 있을까, 말라 있을까?",
        "돌은 {} 있습니다.",
        *("젖어", "말라"),
    ),
    _ask(
        "책상이 슬퍼할 수 있어?",
        "{}.",
        *("아니요, 책상은 슬퍼할 수 없습니다", "네, 책상은 슬퍼할 수 있습니다"),
    ),
    _ask(
        "물고기가 열쇠로 문을 잠글 수 있어?",
        "{}.",
        *("아니요, 물고기는 문을 잠글 수 없습니다", "네, 물고기는 문을 잠글 수 있습니다"),
    ),
    _ask(
        "동생이 깊이 잠들어 있어. 동생은 책을 읽고 있을까?",
        "{}.",
        *("아니요, 책을 읽고 있지 않습니다", "네, 책을 읽고 있습니다"),
    ),
    _ask(
        "내 왼쪽 신발이 내 이름을 알까?",
        "{}.",
        *("아니요, 신발은 이름을 모릅니다", "네, 신발은 이름을 압니다"),
    ),
    _ask(
        "동전이 내 주머니에 들어갈까?",
        "{}.",
        *("네, 동전은 주머니에 들어갑니다", "아니요, 동전은 주머니에 들어가지 않습니다"),
    ),
    _ask(
        "우산을 든 남자에게 코가 있을까?",
        "{}.",
        *("네, 코가 있습니다", "아니요, 코가 없습니다"),
    ),
    _ask(
        "배가 고파서 빵 사진을 한 시간 동안 보았어. 나는 아직도 배가 고플까?",
        "{}.",
        *("네, 아직도 배가 고픕니다", "아니요, 이제 배가 고프지 않습니다"),
    ),
)

QUESTIONS: Mapping[str, tuple[Question, ...]] = {"en": ENGLISH, "ko": KOREAN}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is told, asked for later, and the replies to choose from, the right first."""

    told: str
    answered: str
    question: Question


FACTS = (
    Fact(
        "My cat is called Biscuit.",
        "What a nice name for a cat.",
        _ask(
            "What is my cat called?",
            "Your cat is called {}.",
            *("Biscuit", "Pepper", "Shadow", "Ginger"),
        ),
    ),
    Fact(
        "My sister lives in Lisbon.",
        "I hope that she likes it there.",
        _ask(
            "Where does my sister live?",
            "Your sister lives in {}.",
            *("Lisbon", "Dublin", "Vienna", "Madrid"),
        ),
    ),
    Fact(
        "I have bought a green car.",
        "I hope that it drives well.",
        _ask("What colour is my car?", "Your car is {}.", "green", "red", "blue", "white"),
    ),
    Fact(
        "My father is a baker.",
        "That is hard work.",
        _ask(
            "What does my father work as?",
            "Your father is a {}.",
            *("baker", "doctor", "teacher", "farmer"),
        ),
    ),
)
"""Told at the window's front and asked for at its end, in English."""

# Talk in between: no name, place, colour or work that is asked for. One line, one exchange.
_TALK = (
    ("How do I boil an egg?", "Put it into boiling water and wait for {} minutes."),
    ("How long is a good walk?", "A walk of {} minutes does most people good."),
    ("How many pages should I read today?", "Read {} pages, and then take a rest."),
    ("How often should I water the plants?", "Water them every {} days, a little each time."),
    ("How long does the soup take?", "Let it cook slowly for {} minutes and stir it."),
    ("How many chairs do we need?", "With {} chairs everyone can sit down."),
)


def talk(number: int) -> tuple[str, str]:
    """The exchange with this number: what is said, and the reply."""
    prompt, reply = _TALK[number % len(_TALK)]
    return prompt, reply.format(number + 2)
