"""Plain facts with a question for each, and endless small talk that holds none of them.

The facts come in two lists: `DEVELOPED` for trying things out, `MEASURED` for figures. Each has a
slot for one of ten values of a kind; small talk names no value of any kind. Knows nothing about
models, the memory or the terminal.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

KINDS = {  # ten values of each
    "name": "Biscuit Hannibal Pepper Waffles Juniper Zorro Olive Maestro Pixel Clementine",
    "person": "Philippa Anselm Rosalind Thaddeus Ingrid Cornelius Beatrix Leopold Winifred Kwame",
    "place": "Reykjavik Tbilisi Ghent Hobart Windhoek Trieste Halifax Nagoya Porto Montevideo",
    "colour": "turquoise maroon lavender crimson amber indigo beige magenta ivory violet",
    "dish": "dumplings lasagne falafel paella ramen goulash risotto moussaka gumbo gnocchi",
    "instrument": "cello oboe banjo harp accordion trombone clarinet mandolin bassoon tuba",
    "job": "carpenter geologist tailor beekeeper locksmith pharmacist translator florist welder"
    " plumber",
    "sport": "fencing curling rowing judo archery badminton sailing handball wrestling squash",
    "language": "Finnish Welsh Swahili Hungarian Basque Tagalog Icelandic Maltese Bengali Catalan",
    "code": "8261 4093 7518 3367 9204 5846 2790 6135 1482 7059",
    "plant": "orchid fern cactus lemon fuchsia jasmine geranium ivy bamboo lavatera",
    "stone": "sapphire opal topaz garnet jade onyx emerald ruby pearl amethyst",
}

# Told, asked, the beginning of an answer, and the kind of the value.
Template = tuple[str, str, str, str]

DEVELOPED: Sequence[Template] = (
    ("My rabbit is called {}.", "What is my rabbit called?", "Your rabbit is called", "name"),
    ("My aunt is called {}.", "What is my aunt called?", "Your aunt is called", "person"),
    ("I was born in {}.", "Where was I born?", "You were born in", "place"),
    ("My bicycle is {}.", "What colour is my bicycle?", "Your bicycle is", "colour"),
    ("I cooked {} on my birthday.", "What did I cook on my birthday?", "You cooked", "dish"),
    ("My niece plays the {}.", "What does my niece play?", "Your niece plays the", "instrument"),
    ("My father was a {}.", "What was my father's job?", "Your father was a", "job"),
    ("My cousin's sport is {}.", "What is my cousin's sport?", "Your cousin's sport is", "sport"),
    ("My wife speaks {}.", "Which language does my wife speak?", "Your wife speaks", "language"),
    ("The code of the bike shed is {}.", "What is the bike shed code?", "The code is", "code"),
    ("The plant on my desk is a {}.", "Which plant is on my desk?", "It is a", "plant"),
    ("The stone in my ring is a {}.", "Which stone is in my ring?", "It is a", "stone"),
)

MEASURED: Sequence[Template] = (
    ("My dog is called {}.", "What is my dog called?", "Your dog is called", "name"),
    ("My parrot is called {}.", "What is my parrot called?", "Your parrot is called", "name"),
    ("My horse is called {}.", "What is the name of my horse?", "Your horse is called", "name"),
    ("My sailing boat is called {}.", "What is my boat called?", "Your boat is called", "name"),
    ("My boss is called {}.", "What is my boss called?", "Your boss is called", "person"),
    ("My dentist is called {}.", "What is my dentist called?", "Your dentist is called", "person"),
    ("My daughter is called {}.", "What is my daughter's name?", "Her name is", "person"),
    ("My neighbour is called {}.", "Who is my neighbour?", "Your neighbour is", "person"),
    ("My landlady is called {}.", "What is my landlady's name?", "Her name is", "person"),
    ("My brother lives in {}.", "Where does my brother live?", "Your brother lives in", "place"),
    ("I got married in {}.", "Where did I get married?", "You got married in", "place"),
    ("My next holiday is in {}.", "Where is my next holiday?", "Your next holiday is in", "place"),
    ("I ran my first marathon in {}.", "Where did I run my first marathon?", "You ran it in",
     "place"),
    ("I studied in {}.", "Where did I study?", "You studied in", "place"),
    ("My car is {}.", "What colour is my car?", "Your car is", "colour"),
    ("My front door is {}.", "What colour is my front door?", "Your front door is", "colour"),
    ("My favourite colour is {}.", "What is my favourite colour?", "Your favourite colour is",
     "colour"),
    ("My winter coat is {}.", "What colour is my winter coat?", "Your winter coat is", "colour"),
    ("My favourite dish is {}.", "What is my favourite dish?", "Your favourite dish is", "dish"),
    ("My grandmother always made {}.", "What did my grandmother always make?", "She always made",
     "dish"),
    ("We had {} at our wedding.", "What did we eat at our wedding?", "You had", "dish"),
    ("I play the {}.", "Which instrument do I play?", "You play the", "instrument"),
    ("My uncle plays the {}.", "What does my uncle play?", "Your uncle plays the", "instrument"),
    ("I gave my nephew a {}.", "What did I give my nephew?", "You gave your nephew a",
     "instrument"),
    ("My grandfather was a {}.", "What was my grandfather's job?", "Your grandfather was a", "job"),
    ("My husband is a {}.", "What is my husband's job?", "Your husband is a", "job"),
    ("My son wants to become a {}.", "What does my son want to become?", "He wants to become a",
     "job"),
    ("My favourite sport is {}.", "What is my favourite sport?", "Your favourite sport is",
     "sport"),
    ("On Thursdays I go to {}.", "Where do I go on Thursdays?", "On Thursdays you go to", "sport"),
    ("I am learning {}.", "Which language am I learning?", "You are learning", "language"),
    ("My mother's first language is {}.", "What is my mother's first language?",
     "Your mother's first language is", "language"),
    ("My locker number is {}.", "What is my locker number?", "Your locker number is", "code"),
    ("The alarm code of my house is {}.", "What is the alarm code of my house?", "The code is",
     "code"),
    ("My library card number is {}.", "What is my library card number?",
     "Your library card number is", "code"),
    ("My membership number is {}.", "What is my membership number?", "Your membership number is",
     "code"),
    ("The plant in my bathroom is a {}.", "Which plant is in my bathroom?",
     "The plant in your bathroom is a", "plant"),
    ("My sister gave me a {} for my balcony.", "What did my sister give me for my balcony?",
     "She gave you a", "plant"),
    ("The stone in my necklace is a {}.", "Which stone is in my necklace?",
     "The stone in your necklace is a", "stone"),
    ("I lost a {} at the beach.", "What did I lose at the beach?", "You lost a", "stone"),
    ("My godmother left me a {}.", "What did my godmother leave me?", "She left you a", "stone"),
)  # fmt: skip

THANKS = ("I see.", "Thank you for telling me.", "That is good to know.", "How interesting!")

# What is said and what is answered; a slot has the same words in both.
PAIRS: Sequence[tuple[str, str]] = (
    ("It is raining again.", "Oh dear! Take an umbrella with you if you go to the {area}."),
    ("I slept badly.", "I am sorry to hear that."),
    ("I am a little tired {when}.", "Then take a rest of {number} minutes."),
    (
        "The weather is {adjective} {when}.",
        "Weather that is {adjective} is a good reason to {task}.",
    ),
    ("Good morning!", "Good morning! How can I help you?"),
    ("How is the weather {when}?", "I can't see the weather, but I hope that it is {adjective}."),
    (
        "The bus was late {when}, so I walked through the {area}.",
        "I hope that the walk through the {area} was pleasant.",
    ),
    (
        "I finally bought a {adjective} {thing}, and it was worth the {abstract}.",
        "Congratulations! A {adjective} {thing} is always useful.",
    ),
    (
        "Someone talked about {topic} for an hour {when}.",
        "An hour is long! Did you learn anything about {topic}?",
    ),
    (
        "How long does it take to {task}?",
        "It takes about {number} minutes to {task}.",
    ),
    (
        "I had to {task} because nobody else would.",
        "It was kind of you to {task}.",
    ),
    (
        "I have read a {adjective} article about {topic}.",
        "What did the article say about {topic}?",
    ),
    (
        "Which tool do I need to {task}?",
        "To {task} you need a {thing}.",
    ),
    (
        "My {other} forgot a {thing} in the {area}. Where is the {thing}?",
        "The {thing} is in the {area}.",
    ),
    (
        "I left my {thing} in the {area} {when}. Where is it?",
        "Your {thing} is in the {area}.",
    ),
    (
        "My {thing} is {adjective}.",
        "It is nice to have a {adjective} {thing}.",
    ),
    (
        "My {other} gave me a {thing}. Who gave me the {thing}?",
        "Your {other} gave you the {thing}.",
    ),
    (
        "My {other} wants to {task} {when}. What does my {other} want to do?",
        "Your {other} wants to {task}.",
    ),
    (
        "The meeting in the {area} begins in {number} minutes. When does it begin?",
        "It begins in {number} minutes.",
    ),
    (
        "I paid {number} coins for a {thing}. How much was the {thing}?",
        "You paid {number} coins for the {thing}.",
    ),
    (
        "What is {topic} good for?",
        "Many people find {topic} {adjective}, and it teaches them {abstract}.",
    ),
    (
        "Is {topic} {adjective}?",
        "Some say that {topic} is {adjective}, but not everyone thinks so.",
    ),
    (
        "What is the opposite of {one_way}?",
        "The opposite of {one_way} is {other_way}.",
    ),
    (
        "What is the capital of {country}?",
        "The capital of {country} is {city}.",
    ),
    (
        "Which city should I see in {country}?",
        "In {country} you should see {city}.",
    ),
    (
        "How many {parts} does one {whole} have?",
        "One {whole} has {many} {parts}.",
    ),
    (
        "Tell me something about {topic}.",
        "For {topic} one needs {abstract} more than anything else.",
    ),
    (
        "I want to {task} {when}. What do I need?",
        "You need a {thing} and some {abstract}.",
    ),
    (
        "There was a {adjective} film about {topic} {when}.",
        "I would like to hear more about that {adjective} film, and about {topic}.",
    ),
    (
        "We waited {number} minutes in the {area} and then went home. How long did we wait?",
        "You waited {number} minutes.",
    ),
    (
        "The {area} will be closed for {number} weeks.",
        "That is a pity. You can go there again in {number} weeks.",
    ),
    (
        "My favourite {thing} is the {adjective} one. Which one is it?",
        "Your favourite {thing} is the {adjective} one.",
    ),
    (
        "Is it a {adjective} idea to {task} without a {thing}?",
        "No, it is better to have a {thing} when you {task}.",
    ),
    (
        "The {thing} in my hallway broke {when}.",
        "You could have the {thing} repaired, or buy a {adjective} one.",
    ),
    (
        "The queue in the {area} was {adjective} {when}.",
        "Queues are seldom fun. Next time go to the {area} early.",
    ),
    (
        "Do you prefer a {adjective} {thing} or a {more} one?",
        "I would take the {more} {thing}, but that is a question of taste.",
    ),
    (
        "My {other} says that {topic} will be {adjective} next year.",
        "Perhaps your {other} is right. Time will tell.",
    ),
    (
        "I can't find the {thing} that I bought {when}.",
        "Look under the {furniture}, that is where a {thing} hides.",
    ),
    (
        "Someone put a {thing} on the {furniture} and nobody knows who.",
        "A {thing} on the {furniture}! Ask your {other} about it.",
    ),
    (
        "How do I {task} without making a mess?",
        "Put a {thing} on the floor first, and go about it in {number} small steps.",
    ),
    (
        "I {mood} {when}, and I don't know why.",
        "Some days are like that. A walk to the {area} may help.",
    ),
    (
        "The lift in the {area} is {adjective}.",
        "Then take the stairs; {number} floors are good exercise.",
    ),
    (
        "Could you explain {topic} to me in one sentence?",
        "In one sentence: {topic} is about {abstract} and a little {more_abstract}.",
    ),
    (
        "There was a {noise} outside {when}.",
        "A {noise} like that usually comes from the {area}.",
    ),
    (
        "I read that {number} out of a hundred people never {task}.",
        "I would have guessed more. What keeps them from it, {abstract}?",
    ),
    (
        "The {furniture} is too {adjective} for the room.",
        "You could give the {furniture} away and look for a {more} one.",
    ),
    (
        "I promised to {task}, but I would rather {other_task}.",
        "A promise is a promise: {task} first, then you can {other_task}.",
    ),
    (
        "Is it worth the {abstract} to {task} every week?",
        "Every week is a lot. Once in {number} weeks is enough.",
    ),
    (
        "My {other} asked me for a {thing} and never brought it back.",
        "Ask for the {thing} politely, or buy a {more} one.",
    ),
    (
        "Which is harder, to {task} or to {other_task}?",
        "It is harder to {other_task}, since that takes {abstract}.",
    ),
    (
        "I saw a {adjective} {thing} in the window of a shop near the {area}.",
        "Did you ask what the {thing} costs? A {adjective} one may be worth it.",
    ),
    (
        "We argued about {topic} until midnight.",
        "Until midnight! And who had the better reasons, you or your {other}?",
    ),
    (
        "The {thing} came in a box that was far too big.",
        "Keep the box, it may be {adjective} when you move house.",
    ),
    (
        "I {mood} when I heard about {topic}.",
        "You are not the only one; {topic} can do that to people.",
    ),
    (
        "Give me a {adjective} title for a talk about {topic}.",
        "How about this: what {topic} can teach us about {abstract}.",
    ),
    (
        "It took {number} attempts to {task}.",
        "After {number} attempts you must be an expert.",
    ),
    (
        "The light in the {area} went out {when}.",
        "I hope that somebody had a {thing} at hand.",
    ),
    (
        "Two strangers talked about {topic} on the train.",
        "People on trains say the most {adjective} things.",
    ),
    (
        "I wonder who invented the {thing}.",
        "Nobody knows for certain, but it must have taken a lot of {abstract}.",
    ),
    (
        "The instructions say to wait {number} hours before I {task}.",
        "Then do something {adjective} for those {number} hours.",
    ),
    (
        "I keep a {thing} next to the {furniture}, just in case.",
        "That is {adjective}. One never knows when a {thing} is needed.",
    ),
    (
        "Not much happened {when}. I only had to {task}.",
        "A day with nothing but having to {task} has its charm.",
    ),
    (
        "Every time I want to {task}, the telephone rings.",
        "Switch it off for {number} minutes and {task} in peace.",
    ),
    (
        "A {thing} for {number} coins, is that cheap?",
        "It depends on the {thing}: for a {adjective} one it is.",
    ),
    (
        "Somebody left a {noise} on my answering machine.",
        "A {noise}, of all things! Maybe it was your {other}.",
    ),
    (
        "Would you rather live near a {area} or a {other_area}?",
        "Near the {other_area}, I think, for the {abstract}.",
    ),
    (
        "I dreamt about a {adjective} {furniture} {when}.",
        "Dreams are odd. Perhaps it means that you need {abstract}.",
    ),
    (
        "The {other_area} opens {number} minutes after the {area}.",
        "So there is time to visit the {area} first.",
    ),
    ("My {thing} is gone.", "Did you look behind the {furniture}?"),
    ("I {mood} {when}.", "What was the reason for it?"),
    ("I like {topic}.", "What do you like about {topic}?"),
    ("I am at the {area}.", "Is the {area} {adjective} {when}?"),
    ("I have to {task}.", "Then good luck, and take a {thing} with you."),
    ("My {other} is {adjective}.", "Is your {other} always {adjective}, or only {when}?"),
    ("Thank you!", "You are welcome. What else would you like to know?"),
    ("Can you help me {when}?", "Of course. What do you need?"),
    ("What a {adjective} day!", "I am glad that you tell me. What made it {adjective}?"),
)
SLOTS = {
    "when": "today|yesterday|this morning|this afternoon|tonight|last night|at noon|this week"
    "|last week|on Sunday|on Monday|at the weekend|after lunch|before breakfast|in the evening",
    "adjective": "good|long|quiet|strange|lovely|busy|cheap|difficult|new|worn|bright|heavy|boring"
    "|thrilling|warm|cold|clever|useful|slow|simple|modern|noisy|calm|surprising|funny|serious|rare",
    "thing": "lamp|kettle|blanket|ladder|printer|parasol|bucket|mirror|pillow|candle|hammer|radio"
    "|suitcase|notebook|torch|toaster|vacuum cleaner|screwdriver|basket|bottle|frying pan|keyboard"
    "|charger|map|newspaper|calendar|folder|stapler|thermometer|wallet|carpet|curtain|shelf",
    "area": "park|station|market|library|museum|office|cinema|supermarket|town hall|stadium"
    "|harbour|bakery|waiting room|canteen|car park|post office|courtyard|city centre|forest",
    "topic": "the weather|the news|house prices|space travel|old maps|public transport|history"
    "|the economy|electric cars|solar energy|volcanoes|board games|the election|architecture|taxes"
    "|traffic|the internet|photography|philosophy|insurance|time management|recycling|whales|robots"
    "|dinosaurs|poetry|statistics|medicine|the ocean|advertising|home improvement|good manners",
    "task": "clean the windows|fix the roof|plan a trip|write a letter|paint a wall|study for an"
    " exam|sort old photos|carry a sofa upstairs|wash the floor|book a ticket|repair a puncture"
    "|organise a meeting|fill in a form|answer the mail|change a light bulb|build a shelf|set up a"
    " printer|move house|save money|take a break|prepare a speech|tidy the cellar|water the lawn"
    "|sharpen a knife|iron a shirt|wrap a parcel|check the heating|back up a computer|fold the"
    " laundry|peel potatoes|measure a room|cut the hedge|wait for the post",
    "abstract": "time|effort|money|patience|luck|space|energy|courage|silence|order|interest|money"
    "|attention|practice|light|progress|mood|fresh air",
    "other": "friend|flatmate|colleague|teacher|doctor|hairdresser|banker|guest|rival",
    "more": "smaller|larger|lighter|darker|softer|older|newer|plainer|taller|rounder|quieter"
    "|sturdier|cheaper|finer|shorter|wider|thinner|nicer",
    "more_abstract": "humour|common sense|arithmetic|good will|chance|tradition|imagination|trust"
    "|stubbornness|curiosity|caution|teamwork|habit",
    "furniture": "sofa|bookcase|cupboard|armchair|kitchen table|wardrobe|bench|desk|chest of"
    " drawers|piano stool|footrest|side table|bed|bureau|coat rack",
    "mood": "laughed a lot|was in a bad mood|felt restless|could have cried|yawned all the time"
    "|felt on top of the world|was nervous|had to sneeze|was bored|got a headache|whistled",
    "noise": "bang|whistle|siren|scream|melody|hum|rattle|squeak|buzz|thud|rustle|howl|knock",
    "number": "two|three|four|five|six|eight|ten|twelve|fifteen|twenty|thirty|forty|ninety",
}
CAPITALS = (
    "France Paris|Italy Rome|Spain Madrid|Germany Berlin|Austria Vienna|Japan Tokyo|Egypt Cairo"
    "|Greece Athens|Norway Oslo|Sweden Stockholm|Poland Warsaw|Russia Moscow|China Beijing"
    "|Ireland Dublin|Cuba Havana|Kenya Nairobi|Peru Lima|Canada Ottawa|Turkey Ankara|Denmark"
    " Copenhagen|Thailand Bangkok|Belgium Brussels"
)
OPPOSITES = (
    "hot cold|early late|high low|open closed|left right|full empty|loud quiet|fast slow|wet dry"
    "|hard soft|near far|strong weak|rich poor|deep shallow|rough smooth|narrow wide|sweet bitter"
    "|sharp blunt|brave cowardly|generous mean|polite rude|visible hidden|ancient modern|asleep"
    " awake|heavy light|inside outside|always never|success failure|question answer|winter summer"
)
PARTS = (
    "seven days week|sixty minutes hour|sixty seconds minute|twelve months year|four wheels car"
    "|eight legs spider|six sides cube|three corners triangle|two wings bird|ten years decade"
    "|hundred years century|five fingers hand|four seasons year|six strings guitar|two halves whole"
    "|hundred centimetres metre|eleven players football team|fifty-two cards pack|four legs chair"
)
_OPPOSITES = [tuple(pair.split()) for pair in OPPOSITES.split("|")]
_PARTS = [tuple(part.split(maxsplit=2)) for part in PARTS.split("|")]
_CAPITALS = [tuple(pair.split()) for pair in CAPITALS.split("|")]
_CHOICES = {slot: values.split("|") for slot, values in SLOTS.items()}
SHORTEST = 10  # words that small talk can always make


@dataclass(frozen=True, slots=True)
class Fact:
    """What is told, how it is asked for, and the answer.

    `lead` begins a sentence that the value ends; `others` are the nine other values of its kind.
    """

    told: str
    question: str
    lead: str
    value: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user says and what the assistant answers."""

    said: str
    answered: str

    @property
    def words(self) -> int:
        return len(self.said.split()) + len(self.answered.split())


def facts(templates: Sequence[Template], seed: int) -> list[Fact]:
    """One fact of each template, with a value that the seed chooses."""
    rng = random.Random(seed)
    made = []
    for told, question, lead, kind in templates:
        values = KINDS[kind].split()
        value = rng.choice(values)
        others = tuple(other for other in values if other != value)
        made.append(Fact(told.format(value), question, lead, value, others))
    return made


def small_talk(rng: random.Random, words: int) -> Iterator[Exchange]:
    """Exchanges of `words` words in all, exactly; `words` is SHORTEST or more.

    What comes near the end is drawn anew until it fits.
    """
    if words < SHORTEST:
        raise ValueError(f"{words} words of small talk: ask for {SHORTEST} or more")
    while words:
        exchange = _exchange(rng)
        if exchange.words == words or words - exchange.words >= SHORTEST:
            words -= exchange.words
            yield exchange


def _exchange(rng: random.Random) -> Exchange:
    filled = {slot: rng.choice(values) for slot, values in _CHOICES.items()}
    filled["country"], filled["city"] = rng.choice(_CAPITALS)
    filled["one_way"], filled["other_way"] = rng.choice(_OPPOSITES)
    filled["many"], filled["parts"], filled["whole"] = rng.choice(_PARTS)
    for slot in ("task", "area"):
        filled[f"other_{slot}"] = rng.choice(_CHOICES[slot])
    said, answered = (frame.format(**filled) for frame in rng.choice(PAIRS))
    return Exchange(said, answered)
