"""Plots about giving: lending, a secret gift, a party, and taking too much."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.lexicon import TOYS
from tinylm.data.corpora.story_grammar.world import World


def lending(w: World) -> None:
    """The hero lends a warm thing to somebody who is cold, and is helped in return."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.place(outdoors=True)
    w.open(friend=True)
    w.put("garment", "[scarf|hat|blanket|jacket|sweater|coat]")
    w.put("o", "[red|blue|green|yellow|purple|striped|woolly|thick] {garment}")
    w.slots["o.n"] = w.slots["garment"]
    w.give("o", "h")
    w.tell(
        "{h} had a {o} that kept {h.him} warm.",
        "when it was cold, {h} always took {h.his} {o} along.",
        "{h.his} grandmother had made {h.him} a {o}.",
    )
    w.paragraph()
    w.put("event", "{h} and {f} were {at}")
    w.tell(
        "one [winter|cold|frosty] [day|morning|afternoon], {event}.",
        "on a cold [day|morning] in [November|December|January|February], {event}.",
    )
    w.weather(0.6, ("cold", "cloudy"))
    w.tell(
        "{f} had forgotten {f.his} warm clothes.",
        "{f} had nothing warm to wear.",
        "{f} had run out of the house without a coat."
        if not w.animals
        else "{f.s} fur was wet from the snow.",
    )
    w.tell(
        "{f} shivered.",
        "{f.s} teeth chattered.",
        "{f.s} nose was red." if not w.animals else "{f.s} nose was cold.",
    )
    w.hurt("f", "sad", "{f.he} was so cold")
    w.say(
        "f", "I am freezing.", "I think I have to go home.", "I am so cold, {h}.", how="whispered"
    )
    w.say(
        "h",
        "You can wear my {o.n}.",
        "Here, take my {o.n}. I am warm enough.",
        "Put this on. You can give it back tomorrow.",
    )
    w.tell(
        "{h} took the {o} and put it around {f}.",
        "{h} gave {f} the {o}." if w.chance(0.5) else "{h} wrapped the {o} around {f}.",
    )
    w.give("o", "f")
    w.heal("f", "the {o.n} was [soft and |]warm")
    w.tell(
        "they <played>.", "now they could make a snowman.", "together they built a fort of snow."
    )
    w.paragraph()
    w.food("snack")
    w.tell("the next day, {f} came to {h.s} house.", "the next morning, {f} knocked at {h.s} door.")
    if w.chance(0.7):
        w.give("o", "h")
        w.tell(
            "{f} brought back the {o.n}, clean and neatly folded.",
            "{f} gave {h} the {o.n} back.",
        )
        w.tell("with it came a {snack}.", "{f} had also brought a {snack} for {h}.")
        w.give("snack", "h")
        w.say(
            "f",
            "This is for you, because you were so kind.",
            "You helped me, and now I want to give you something.",
            "Thank you for the {o.n}. This {snack.n} is for you.",
        )
    else:
        w.tell("{f} had the {o.n} in {f.his} {f.hand}s. There was a hole in it!")
        w.say("f", "I am so sorry. It got caught on a fence.", how="sobbed")
        w.say("h", "Don't worry. We can mend it.", "It is only a {o.n}. You are my friend.")
        w.tell(
            "they sewed the hole with [red|blue|golden] thread. Now the {o.n} looked even nicer."
        )
        w.give("o", "h")
        w.tell("{f} gave it back to {h} and hugged {h.him}.")
    w.close(
        "{h} felt warm inside, even without the {o.n}.",
        "{h} and {f} stayed friends for a long, long time.",
        "they drank hot [chocolate|tea|milk] together and looked at the snow.",
        moral=(
            "kindness always comes back",
            "it feels good to help",
            "a kind heart keeps you warm",
        ),
    )


def secret_gift(w: World) -> None:
    """The hero longs for a thing; somebody who loves the hero makes or saves up for it."""
    w.cast_child("h")
    if w.chance(0.5):
        w.cast_kin()
    else:
        w.cast_child("k", unlike="h")
        w.slots["k.own"] = f"{w.slots['h.his']} friend {w.slots['k']}"
    w.place(("the market", "the village square"))
    w.open()
    w.belonging("o", TOYS)
    w.tell(
        "{h} [wished for|dreamed of] one thing: a {o}.",
        "more than anything, {h} wanted a {o}.",
        "every day {h} stood at the window of the toy shop. There was a {o} in it.",
    )
    w.note("wanted", "h", "o")
    w.hurt("h", "sad", "[the {o.n} cost too much|{h} did not have enough money for the {o.n}]")
    w.paragraph()
    w.tell("{k.own} [saw|noticed] it.", "{k.own} knew about the wish.")
    w.say("k", "You never know what a day will bring.", "Don't be sad, {h}. Just wait a little.")
    way = w.pick(("make", "save", "find"))
    if way == "make":
        w.tell(
            "every [evening|night], there was a light in the shed, and {h} heard strange sounds.",
            "for a whole week, {k} was busy behind a closed door. There was glue, paper, wood and "
            "paint.",
        )
        w.slots["how"] = "had made it"
    elif way == "save":
        w.tell(
            "{k} worked hard and put every coin into a jar.",
            "{k} sold [eggs|lemonade|cakes|flowers|jam] {at} and saved the money.",
        )
        w.slots["how"] = "had saved up for it"
    else:
        w.tell(
            "{k} found an old broken one in the attic and began to fix it.",
            "{k} got an old one from a neighbor and cleaned it until it looked new.",
        )
        w.slots["how"] = "had fixed it"
    w.tell("{h} did not know anything about it.", "it was a big secret.")
    w.paragraph()
    w.tell(
        "on {h.his} birthday, {h} [woke up early|ran down the stairs|opened {h.his} eyes].",
        "then came {h.s} birthday.",
    )
    w.tell(
        "on the table, there was a [big|small|strange] [box|parcel|present] with a [red|blue|gold|"
        "silver] bow.",
        "there was something under a [white|blue|checkered] cloth.",
    )
    w.say("h", "What can it be?", "Is that for me?", how="asked")
    w.tell(
        "{h} [looked inside|opened it|tore off the paper]. It was the {o}!",
        "{h} peeked. There was the {o}!",
    )
    w.give("o", "h")
    w.say(
        "k",
        "Happy birthday! It is for you.",
        "Happy birthday, {h}! Your wish came true.",
    )
    w.tell("{k} {how}, just for {h}.", "{k} {how} all in secret.")
    w.heal("h", "[the {o} was {h.hers}|{k} {how}]")
    w.tell("{h} gave {k} a <hug>.", "{h} threw {h.his} arms around {k}.")
    w.close(
        "then {h} took the {o.n} and {o.play}.",
        "{h} took the {o.n} and {o.play}, and {k} watched and smiled.",
        "{h} kept the {o.n} for many years.",
        moral=(
            "the best gifts come from the heart",
            "somebody who loves you listens to your wishes",
            "a gift is made with time and love",
        ),
    )


def greedy(w: World) -> None:
    """The hero eats what was meant for all, pays for it, and makes it good."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    w.open(friend=True)
    w.put(
        "o",
        "[cookies|cherries|muffins|strawberries|candies|plums|pancakes|doughnuts|cupcakes|"
        "berries|chocolates|grapes]",
    )
    w.paragraph()
    w.one_day("{k.of} put a [plate|bowl|basket] of {o} on the table", at=False)
    w.say(
        "k",
        "These are for you and {f}. Please wait for {f}.",
        "They are for everybody. Don't eat them alone, {h}.",
    )
    w.tell("the {o} smelled so good.", "{h} looked at the {o}. They looked back.")
    w.tell(
        "{h} took one. Then {h.he} took another one, and another.",
        "only one, thought {h}. But one became two, and two became ten.",
    )
    w.note("ate", "h", "o")
    w.tell("<soon> there was nothing left.")
    w.tell("then {f} came in, and there were no {o} for {f.him}.")
    w.hurt("f", "sad", "[{h} had eaten all the {o}|there were no {o} left]")
    w.tell("and {h} had a bad tummy ache.", "{h.s} tummy hurt, and it was as round as a ball.")
    w.hurt("h", "sorry", "{h} had not shared the {o}")
    w.paragraph()
    w.say(
        "h",
        "I am sorry, {f}. I ate them all.",
        "I only thought of myself. I am sorry.",
        how="sobbed",
    )
    w.say("k", "What could you do now?", "How can you make it good again?", how="asked")
    w.focus("h")
    w.tell("{h} <thought>.", "{h} lay down and <thought>.")
    w.food("p")
    if w.chance(0.5):
        w.tell("in {h.his} bag, {h} still had a {p}. {h.he} gave it to {f}.")
        w.give("p", "f")
        w.put("relief", "{h} had given {f.him} the {p}")
    else:
        w.tell("the next day, {h} went with {k} to get new {o}, and the first ones were for {f}.")
        w.put("relief", "{f} got the first new {o}")
    w.heal("f", "{relief}")
    w.say(
        "f",
        "Thank you. Let's share it."
        if "given" in w.slots["relief"]
        else "Thank you. Let's eat them together.",
        "I am not angry anymore, {h}.",
    )
    w.heal("h", "{f} [had forgiven {h.him}|was happy again]")
    w.close(
        "the next time, {h} waited for {f}.",
        "after that, {h} always counted the {o} and gave {f} half.",
        "{h} found out that {o} taste better with a friend.",
        moral=(
            "it is not good to be greedy",
            "sharing tastes better than eating alone",
            "you should think of others too",
        ),
    )


def birthday(w: World) -> None:
    """The hero thinks that everybody forgot the birthday; all the odd things had one reason."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    w.open(friend=True)
    w.paragraph()
    w.tell("it was {h.s} birthday. {h} woke up early.", "at last {h.s} birthday had come.")
    w.tell(
        "but {k} only said good morning and [went out|read the paper|swept the floor].",
        "but at breakfast, {k} did not say a word about it.",
    )
    w.tell("{h} went to {f.s} house.", "{h} ran to {f}.")
    w.say("h", "Do you want to play with me?", "Do you know what day it is?", how="asked")
    w.say(
        "f", "I have no time today.", "I have to help at home.", "Sorry, I am busy.", how="answered"
    )
    w.tell(
        "{f} closed the door, and {h} saw something [red|colorful|shiny] behind {f.him}.",
        "{f} had [glue|flour|paint|glitter] on {f.his} nose and closed the door.",
    )
    w.note("hid", "f", "k")
    w.hurt("h", "sad", "[everybody had forgotten the birthday|nobody remembered {h.s} birthday]")
    w.tell(
        "all alone, {h} walked to the [river|hill|park|old tree|pond|bridge] and sat there.",
        "{h} walked around alone and kicked a [stone|can|pine cone].",
    )
    w.paragraph()
    w.tell(
        "in the evening, {h} came home. It was dark inside.",
        "when the sun went down, {h} opened the door. There was no light.",
    )
    w.tell(
        "then the lamps went on! Everybody jumped up.",
        "click! There was light, and everybody was there.",
    )
    w.say(
        "f",
        "Surprise! Happy birthday, {h}!",
        "Happy birthday! Did you think we forgot?",
        how="cried",
    )
    w.tell(
        "there were [balloons|paper lanterns|garlands] and a [chocolate|carrot|strawberry|lemon|"
        "honey|nut] cake with [five|six|seven] candles."
    )
    w.belonging("o", TOYS)
    w.tell(
        '{f} gave {h} a {o}. "That is why I had no time," said {f}.',
        "there was a present too, a {o}. {f} had kept it secret all day.",
    )
    w.give("o", "h")
    w.note("gave", "f", "o", "h")
    w.heal(
        "h",
        "[nobody had forgotten the birthday|{f} and {k} had only kept it a secret|"
        "they had made a party for {h.him}]",
    )
    w.say(
        "h",
        "This is the best birthday ever!",
        "And I thought that you did not like me!",
        how="laughed",
    )
    w.tell(
        "{h} blew out the candles and made a wish.",
        "they danced and sang until late.",
        "{h} took the {o.n} and {o.play}.",
    )
    w.close(
        "that night, {h} fell asleep with a smile.",
        "{h} kept one candle forever.",
        "{h} would never forget that day.",
        moral=(
            "good friends never forget you",
            "you should not give up on your friends",
            "sometimes a secret is a nice surprise",
        ),
    )
