"""Plots about looking for something: hide-and-seek and a treasure hunt."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.lexicon import TOYS, TREASURES
from tinylm.data.corpora.story_grammar.world import World


def hide_and_seek(w: World) -> None:
    """One hides so well that nobody finds the place; a small clue gives it away."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    place = w.place()
    w.open(friend=True)
    w.paragraph()
    w.one_day("{h} and {f} played hide-and-seek {at}", "the two wanted to play hide-and-seek {at}")
    w.tell(
        "{f} closed {f.his} eyes and counted to [ten|twenty|thirty|fifty].",
        "{f} had to count, and {h} had to hide.",
    )
    wrong, right = w.pick_two(place.spots)
    w.slots.update(wrong=wrong, right=right)
    w.definite("right")
    w.tell("{h} hid {right} and did not move.", "<quickly> {h} ran and hid {right}.")
    w.note("hid", "h", "right")
    w.say("f", "Ready or not, here I come!", "I am coming!", how="cried")
    w.tell("{f} looked {wrong}. Nobody was there.", "first {f} searched {wrong}. No {h}!")
    w.tell("{f} looked high and low.", "{f} went around twice.", "{f} called and called.")
    w.hurt("f", "worried", "[{f.he} could not find {h}|{h} did not answer]")
    w.paragraph()
    clue, result = w.pick(
        (
            ("a sneeze", "{h} had sneezed"),
            ("a giggle", "{h} had giggled"),
            ("a soft snore", "{h} had fallen asleep"),
            ("a hiccup", "{h} had the hiccups"),
            ("a rumble", "{h.s} tummy was empty"),
            ("a tiny cough", "{h} had coughed"),
            ("a loud yawn", "{h} was tired"),
        )
    )
    w.slots["clue"] = clue
    w.put("result", result)
    w.tell(
        "then {f} heard {clue}. It came from {right.the}!"
        if right.startswith(("under", "behind", "between"))
        else "then {f} heard {clue}. It was very near!",
        "just as {f} wanted to give up, there was {clue}.",
    )
    w.note("clue", "f", "clue")
    w.tell(
        "{f} looked {right.the}. There was {h}!",
        "{f} tiptoed closer and looked {right.the}. It was {h}!",
    )
    w.note("found", "f", "h", "right")
    w.heal("f", "[{h} was found|{f} had found {h}]")
    w.say(
        "f",
        "I found you! I heard {clue}.",
        "Got you! You can hide, but I heard {clue}!",
        how="laughed",
    )
    w.say(
        "h", "That was me. It was such a good place!", "Oh no! And I was so quiet.", how="laughed"
    )
    w.tell("they laughed, because {result}.", "{h} had to laugh too, because {result}.")
    w.paragraph()
    w.tell("now it was {f.s} turn to hide.", "then {h} counted, and {f} ran away to hide.")
    w.close(
        "they <played>.",
        "{h} never hid {right.the} again.",
        "in the evening, they were tired and happy.",
        moral=(
            "it is good to listen well",
            "you should not give up looking",
            "games are best with a friend",
        ),
    )


def treasure_hunt(w: World) -> None:
    """A map leads from clue to clue to a box; what is in it is shared."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    w.place(outdoors=True)
    w.open(friend=True)
    w.paragraph()
    w.one_day(
        "{h} found an old map [in a bottle|in a book|under a loose board|in the attic]", at=False
    )
    w.say(
        "h",
        "Look, {f}! There is a cross on it. It is a treasure map!",
        "A treasure map! Let's go and look for the treasure, {f}!",
        how="cried",
    )
    w.note("found", "h", "place")
    w.put("first", "[an old well|a crooked tree|a tall statue|a broken wall|a white gate]")
    w.put("second", "[a round stone|a wooden bridge|a hollow oak|an old boat|a red mailbox]")
    w.definite("first")
    w.definite("second")
    steps = w.pick(("ten", "twenty", "thirty", "seven", "twelve"))
    w.slots["steps"] = steps
    w.tell("the map showed {place}, {first} and {second}.")
    w.tell(
        "they went to {place}. From {first.the}, they had to walk {steps} steps to {second.the}.",
        "first they found {first.the} {at}. Then they counted {steps} steps to {second.the}.",
    )
    w.detail(0.4)
    w.tell(
        "there they began to dig. But there was nothing, only [worms|stones|roots|an old boot].",
        "they dug a hole next to {second.the}, but they found only [stones|a rusty can|a bone].",
    )
    w.hurt("f", "sad", "[there was no treasure|they had not found any treasure]")
    w.paragraph()
    w.tell(
        "{h} looked at the map again. It was upside down!",
        "then {h} saw that they had gone the wrong way.",
        "{h} turned the map around. They had to dig on the other side!",
    )
    w.say(
        "h",
        "We must dig on the other side of {second.the}!",
        "It is not here, it is over there!",
        how="cried",
    )
    w.tell(
        "they dug again. Clonk! There was [a box|a chest|a tin].",
        "this time the shovel hit something hard. It was [a wooden box|a little chest].",
    )
    w.belonging("o", TREASURES if w.chance(0.5) else TOYS, sizes="s")
    w.tell("in it lay a {o}, and next to it was a letter.", "inside there was a {o} and a letter.")
    w.note("treasure", "o")
    w.heal("f", "they had found [the treasure|a {o}]")
    w.tell(
        'the letter was from {k.of}. It said: "Whoever finds this must share it."',
        'it was {k} who had hidden it. "For two good friends," the letter said.',
    )
    if w.chance(0.5):
        w.give("o", "h")
        w.say("f", "You found the map, so you can have it first.")
        w.tell("so {h} took the {o.n}, and the next week it was {f.s} turn.")
    else:
        w.give("o", "f")
        w.say("h", "You can have it first, {f}. You did most of the digging.")
        w.tell("so {f} took the {o.n} home, and the next week it was {h.s} turn.")
    w.close(
        "then they hid a new treasure for somebody else.",
        "the map stayed on the wall of {h.s} room.",
        "they ran to {k} and told the whole story.",
        moral=(
            "a treasure is best when you share it",
            "it helps to look twice",
            "the best treasure is a friend",
        ),
    )
