"""Plots about owning up: something broken, a promise, a mess."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.lexicon import TOYS
from tinylm.data.corpora.story_grammar.world import World

# (what breaks, whose it is for, how it was broken, how it is mended)
_BREAKABLE = (
    ("vase", "glued all the pieces with care"),
    ("cup", "glued the handle back on"),
    ("lamp", "put in a new bulb and a new shade"),
    ("plate", "made a pretty tile out of it"),
    ("teapot", "glued the lid and planted a flower in it"),
    ("clock", "fixed the little wheels"),
    ("flower pot", "planted the flower in a bucket"),
    ("bowl", "glued it with golden glue"),
    ("picture frame", "nailed a new frame"),
    ("cookie jar", "bought a tin one"),
)


def broken(w: World) -> None:
    """Something of the family's is broken; the hero hides it or tells the truth."""
    w.cast_child("h")
    w.cast_kin()
    w.open()
    noun, mend = w.pick(_BREAKABLE)
    w.put("o", f"[{'blue' if w.chance(0.3) else 'old'}|big|white|beautiful|green] {noun}")
    w.slots.update({"o.n": noun, "mend": mend})
    w.belonging("p", TOYS, sizes="s")
    w.give("o", "k")
    w.give("p", "h")
    w.tell(
        "{k.own} had a {o}. It was very dear to {k}.",
        "{k.own} loved {k.his} {o}.",
        "in the house there was a {o} that belonged to {k.own}.",
    )
    w.paragraph()
    w.one_day(
        "{h} was playing inside with {h.his} {p}",
        "{h} ran through the house with {h.his} {p}",
        at=False,
    )
    w.say("k", "Please be careful, {h}.", "Don't run inside, please.")
    w.tell(
        "but {h} did not listen.", "{h} was too busy to listen.", "{h} forgot it after a minute."
    )
    w.tell(
        "crash! {h} [bumped into the {o}|knocked over the {o}], and it broke.",
        "{h.his} arm hit the {o}. It [fell|crashed] to the floor and broke.",
    )
    w.note("broke", "h", "o")
    w.hurt("h", "sorry", "[the {o} was broken|{h} had broken the {o}]")
    w.paragraph()
    lied = w.chance(0.45)
    if lied:
        w.tell(
            "{h} hid the pieces [under the rug|behind the sofa|in a drawer|in a box].",
            "{h} was afraid to tell and hid the pieces [under the bed|in a bag].",
        )
        w.say(
            "k",
            "Where is my {o}? What happened?",
            "Do you know what happened to my {o}?",
            how="asked",
        )
        w.say("h", "It was the cat.", "I don't know.", "It was the wind.", how="answered")
        w.note("lied", "h", "k")
        w.tell(
            "but {h} could not eat {h.his} dinner. The lie felt like a stone.",
            "{h} lay awake for a long time. The lie was heavy.",
        )
        w.tell("at last {h.he} got up and went to {k}.", "in the morning, {h} went to {k}.")
    else:
        w.tell(
            "{h} wanted to hide the pieces, but that did not feel right.",
            "{h} thought of hiding it. But {k} would be sad and would not know why.",
        )
        w.tell(
            "so {h.he} went to {k}, with a red face."
            if not w.animals
            else "so {h.he} went to {k}.",
            "with a beating heart, {h} went to {k}.",
        )
    w.say(
        "h",
        "I broke your {o}. I am sorry.",
        "It was me. I broke the {o.n} when I was playing.",
        "I did not tell the truth. I broke the {o.n}."
        if lied
        else "I have to tell you the truth. I broke the {o.n}.",
        how="whispered",
    )
    w.note("confessed", "h", "k", "o")
    w.tell("{k} was quiet for a moment.", "{k} looked at the pieces and sighed.")
    w.say(
        "k",
        "Thank you for telling me the truth.",
        "I am sad about the {o.n}, but I am glad that you told me.",
        "That was brave of you.",
        "A {o.n} can be fixed. Trust is more important.",
    )
    w.tell("together they {mend}.", "{k} and {h} {mend}.")
    w.note("mended", "k", "h", "o")
    w.heal("h", "[{h} had told the truth|{k} was not angry|{k} had forgiven {h}]")
    w.paragraph()
    w.close(
        "after that day, {h} only played with the {p.n} outside.",
        "{h} gave {k} a <hug> and promised to be careful.",
        "after that, {h} never ran in the house again.",
        "the {p.n} went back to the shelf, and {h} helped {k} sweep the floor.",
        moral=(
            "it is brave to tell the truth",
            "the truth makes your heart light",
            "a mistake is not bad when you are honest about it",
        ),
    )


def promise(w: World) -> None:
    """The hero promises to look after something, and keeps the promise or breaks and mends it."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.place(outdoors=True)
    w.open(friend=True)
    pet, need, bad = w.pick(
        (
            ("goldfish", "feed it", "the goldfish was hungry"),
            ("hamster", "feed it", "the hamster had nothing to eat"),
            ("snail", "give it fresh leaves", "the snail had no leaf left"),
            ("rose", "water it", "the rose hung its head"),
            ("parrot", "give it water", "the parrot had no water"),
            ("tomato plant", "water it", "the leaves were dry and yellow"),
            ("canary", "give it seeds", "the canary did not sing"),
            ("fern", "water it", "the fern was almost dry"),
        )
    )
    if w.animals:
        pet, need, bad = w.pick(
            (
                ("rose", "water it", "the rose hung its head"),
                ("tomato plant", "water it", "the leaves were dry and yellow"),
                ("fern", "water it", "the fern was almost dry"),
                ("snail", "give it fresh leaves", "the snail had no leaf left"),
            )
        )
    w.slots.update(o=pet, need=need, bad=bad)
    w.give("o", "f")
    w.tell("{f} had a {o} and took good care of it.", "{f} was very proud of {f.his} {o}.")
    w.paragraph()
    w.put(
        "trip", "[visit {f.his} grandparents|go to the sea|travel to the mountains|visit a cousin]"
    )
    w.one_day("{f} had to {trip} for [three days|a week|some days]", at=False)
    w.say(
        "f",
        "Will you look after my {o}? You must {need} every day.",
        "Please {need} every day while I am away. Do you promise?",
        how="asked",
    )
    w.say(
        "h", "I promise!", "Yes, I promise. You can trust me.", "Of course. I will not forget it."
    )
    w.note("promised", "h", "f", "need")
    w.give("o", "h")
    w.tell("so {f} gave {h} the {o} and left.", "{h} took the {o} home, and {f} went away happy.")
    w.paragraph()
    w.put(
        "fun",
        "[all the others were swimming in the lake|there was a circus in the village|"
        "it was a perfect day for kites|the others wanted to build a dam|there was a big fair]",
    )
    if w.chance(0.5):
        w.tell("on the second day, {fun}.", "the next day, {fun}.")
        w.tell(
            "{h} wanted to go at once. Then {h.he} remembered the {o}.",
            "{h} was already at the door when {h.he} thought of the {o}.",
        )
        w.say("h", "First I keep my promise.", "A promise is a promise.")
        w.tell(
            "{h} went back to {need}. Only then {h.he} went out.",
            "{h.he} took the time to {need}, and went out later.",
        )
        w.tell("day after day, {h} did the same.", "{h} did not forget it once.")
        w.note("kept", "h", "need")
        w.tell("when {f} came home, the {o} was [well|doing fine|better than ever].")
        w.give("o", "f")
        w.say(
            "f",
            "You kept your promise! Thank you.",
            "I knew that I could trust you.",
            how="laughed",
        )
        w.close(
            "{f} brought {h} a [shell|postcard|pebble|little bell] from the trip.",
            "{h} was <proud>.",
            "after that, {f} trusted {h} with everything.",
            moral=("a promise must be kept", "your friends can trust you when you keep your word"),
        )
    else:
        w.tell(
            "on the second day, {fun}, and {h} forgot the {o}.",
            "but then {fun}. {h} did not think of the {o} for two days.",
        )
        w.note("forgot", "h", "need")
        w.tell("when {h} came home, {bad}.")
        w.hurt("h", "sorry", "[{h} had broken {h.his} promise|{bad}]")
        w.tell(
            "<quickly> {h} went to {need}. {h.he} stayed with the {o} all day.",
            "{h} began to {need} at once, and again and again.",
        )
        w.tell("slowly, the {o} got better.", "in the morning, the {o} looked better.")
        w.paragraph()
        w.tell("when {f} came back, {h} told {f.him} everything.")
        w.give("o", "f")
        w.say("h", "I forgot my promise, and I am sorry.", "I did not keep my word. I am so sorry.")
        w.say(
            "f",
            "Thank you for being honest. The {o} is all right.",
            "You made it well again. I am not angry.",
            how="answered",
        )
        w.heal("h", "{f} [had forgiven {h.him}|was not angry]")
        w.close(
            "from then on, {h} kept every promise.",
            "the next time {f} went away, {h} did not forget the {o}.",
            moral=("a promise must be kept", "it is good to say sorry when you break a promise"),
        )


# (what is spilled, how, how it is cleaned, place)
_MESSES = (
    (
        "paint",
        "[red|blue|green|yellow|purple] paint was on the floor, the table and even the wall",
        "a wet sponge",
        "paint a [picture|card|mask] for {k}",
    ),
    ("flour", "white flour lay over everything like snow", "a broom", "bake a cake for {k}"),
    (
        "mud",
        "brown mud was on the carpet and the stairs",
        "a mop",
        "bring {k} a flower from outside",
    ),
    (
        "milk",
        "the milk ran over the table and dripped on the rug",
        "a dry cloth",
        "make breakfast for {k}",
    ),
    (
        "glue",
        "sticky glue was on the chair, the rug and both sleeves",
        "warm water and soap",
        "make a paper star for {k}",
    ),
    (
        "feathers",
        "feathers flew through the whole room",
        "a big bag and a brush",
        "make {k.s} pillow soft again",
    ),
    (
        "soap",
        "white bubbles came out of the tub and filled the room",
        "a mop and a bucket",
        "wash {k.s} clothes",
    ),
    (
        "sand",
        "sand was in the bed, the shoes and the soup pot",
        "a broom and a dustpan",
        "build a little beach for {k}",
    ),
    (
        "jam",
        "sticky jam was on the walls, the spoons and the door",
        "a wet cloth",
        "cook jam for {k}",
    ),
    (
        "ink",
        "a black spot of ink grew on the white table",
        "lemon juice and a cloth",
        "write a letter for {k}",
    ),
)


def mess(w: World) -> None:
    """A good plan makes a big mess; they clean it together, and the plan still works out."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    w.open(friend=True)
    stuff, look, tool, plan = w.pick(_MESSES)
    w.slots["stuff"], w.slots["tool"] = stuff, tool
    w.put("look", look)
    planned = w.put("plan", plan)
    w.slots["plan_you"] = planned.replace(w.slots["k.s"], "your").replace(w.slots["k"], "you")
    w.paragraph()
    w.one_day(
        "{h} and {f} wanted to {plan}", "{h} had a plan. With {f}, {h.he} would {plan}", at=False
    )
    w.say("h", "It will be a surprise!", "{k.call} will be so happy!", "We can do it alone.")
    w.tell(
        "but {f} bumped into {h}, and the {stuff} went everywhere.",
        "then {h} slipped. Whoosh! The {stuff} went everywhere.",
        "but it was harder than they had thought. Splat!",
    )
    w.tell("{look}.", "soon {look}.", "oh dear! {look}.")
    w.note("spilled", "h", "f", "stuff")
    w.hurt("h", "worried", "[the {stuff} had made a big mess|{k} would see the mess]")
    w.say("f", "What shall we do?", "Oh no! Should we run away?", how="asked")
    if w.chance(0.5):
        w.say("h", "We made it, so we clean it.", "No, we must clean it up.")
        w.tell(
            "they took {tool} and began to clean.", "{h} fetched {tool}. They rubbed and scrubbed."
        )
        w.tell("then the door opened, and there stood {k}.", "just then, {k} came home.")
        w.say("k", "Oh my! What happened here?", how="asked")
        w.say("h", "We wanted to {plan_you}. We are sorry about the {stuff}.", how="answered")
    else:
        w.tell(
            "the door opened. {k} looked at the [mess|room] and said nothing at first.",
            "at that moment, {k} came in.",
        )
        w.say("k", "What happened here?", "Who made this mess?", how="asked")
        w.say(
            "h",
            "It was us. We wanted to {plan_you}.",
            "We are sorry. It was meant to be a surprise.",
            how="answered",
        )
        w.say("k", "Then let's clean it up together.", "Many {h.hand}s make it easy. Come on!")
        w.tell("{k} brought {tool}, and all three began to clean.")
    w.tell(
        "{k} helped them, and they sang while they worked.",
        "they cleaned and laughed, and in an hour the room was clean.",
        "{h} cleaned the left side, {f} cleaned the right side, and {k} cleaned the middle.",
    )
    w.note("cleaned", "h", "f", "k", "stuff")
    w.heal("h", "[the {stuff} was gone|everything was clean again]")
    w.paragraph()
    w.tell(
        "then they tried it once more, this time with {k}.", "{k} showed them how to do it better."
    )
    w.close(
        "it was the best surprise, {k} said, because they had done it together.",
        "{k} laughed and gave both of them a <hug>.",
        "the next time, {h} and {f} put old paper on the floor first.",
        moral=(
            "whoever makes a mess should clean it up",
            "work is easy when everybody helps",
            "it is better to help than to hide",
        ),
    )
