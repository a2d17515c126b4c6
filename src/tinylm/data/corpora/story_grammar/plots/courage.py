"""Plots about the night: facing a fear, and a night without sleep."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.lexicon import TOYS
from tinylm.data.corpora.story_grammar.world import World

# (who is feared, what is feared of them, what is seen or heard, what one does, what it was)
_FEARS = (
    (
        "monster",
        "a monster lived under the bed",
        "something scratched under the bed",
        "looked under the bed with a flashlight",
        "a kitten with a ball of wool",
    ),
    (
        "ghost",
        "there was a ghost by the window",
        "something white moved by the window",
        "pulled the curtain aside",
        "a white shirt on the line",
    ),
    (
        "giant",
        "there was a giant in the room",
        "a huge shadow stood on the wall",
        "turned on the lamp",
        "a coat on a chair",
    ),
    (
        "wolf",
        "a wolf was at the door",
        "something howled outside",
        "opened the door a tiny bit",
        "the wind in the old chimney",
    ),
    (
        "dragon",
        "a dragon slept in the cellar",
        "something rumbled in the cellar",
        "went down the stairs, one by one",
        "the old water pump",
    ),
    (
        "thief",
        "a thief was in the kitchen",
        "a plate rattled in the kitchen",
        "tiptoed to the kitchen",
        "a mouse with a crumb of cheese",
    ),
    (
        "witch",
        "a witch sat in the attic",
        "something knocked in the attic",
        "climbed up the ladder",
        "an owl with a nest full of babies",
    ),
    (
        "snake",
        "a snake was in the closet",
        "something long hung in the closet",
        "opened the closet wide",
        "an old belt",
    ),
    (
        "bear",
        "a bear was in the bushes",
        "the bushes shook and cracked",
        "went out and pushed the branches apart",
        "a hedgehog with a leaf on its back",
    ),
    (
        "monster",
        "a monster was in the well",
        "a deep voice came from the well",
        "went out and looked into the well",
        "an echo, and nothing more",
    ),
)


def fear(w: World) -> None:
    """The hero is afraid of something unseen, looks with somebody's help, and it is harmless."""
    w.cast_child("h")
    w.cast_kin()
    foe, dread, sign, deed, truth = w.pick(_FEARS)
    now = (
        dread.replace(" was ", " is ").replace(" lived ", " lives ").replace(" slept ", " sleeps ")
    )
    now = now.replace(" sat ", " sits ")
    w.slots.update(foe=foe, dread_now=now, dread=dread, sign=sign, deed=deed, truth=truth)
    w.open()
    w.maybe(
        0.5,
        "{h} was brave by day, but not by night.",
        "{h} did not like the dark.",
        "{h} had a wild imagination.",
    )
    w.paragraph()
    w.tell(
        "one [dark|stormy|cold|quiet] night, {h} could not sleep.",
        "one evening, {h} was alone in {h.his} room.",
        "it was late, and the moon was hidden behind the clouds.",
    )
    w.tell("<suddenly> {sign}.", "then {sign}!", "{h} heard the clock. Tick, tock. Then {sign}.")
    w.note("feared", "h", "dread")
    w.hurt("h", "afraid", "[{h} thought that {dread}|{h.he} was sure that {dread}]")
    w.tell(
        "{h} pulled the blanket over {h.his} head.",
        "{h} did not dare to move.",
        "{h.his} knees were as soft as butter.",
        "{h} hugged {h.his} pillow.",
    )
    w.say("h", "{k.call}! Please come!", "Help! {k.call}!", how="cried")
    w.paragraph()
    w.tell("{k} came at once.", "the door opened. It was {k}.", "{k} came and sat down with {h}.")
    w.say("h", "I think that {dread_now}!", "I am scared, because {dread_now}!", how="whispered")
    w.say(
        "k",
        "Shall we go and look together?",
        "Let's find out what it is.",
        "To be brave means to look, even when you are scared.",
        "I am with you. Take my {h.hand}.",
    )
    w.tell(
        "{h} took a deep breath.",
        "{h} counted to three.",
        "{h} squeezed {k.s} {h.hand}.",
        "{h} still trembled, but {h.he} nodded.",
    )
    w.tell("then {h.he} {deed}.", "step by step they went closer. Then {h} {deed}.")
    w.tell("and what was it? It was only {truth}!", "it was {truth}!", "there was only {truth}.")
    w.note("was", "truth")
    w.heal("h", "[there was no {foe}|it was only {truth}|there was nothing to be afraid of]")
    w.say("h", "Only {truth}! How silly!", "I was afraid of that!", how="laughed")
    w.say("k", "You were very brave.", "Now you know.", "I am proud of you, {h}.")
    w.paragraph()
    w.close(
        "{h} went to bed and slept until the morning.",
        "after that night, {h} always looked first when {h.he} was afraid.",
        "{h} yawned, closed {h.his} eyes and dreamed of {truth}.",
        "the next time, {h} went to look all alone.",
        moral=(
            "being brave means to look",
            "many scary things are not scary in the light",
            "fear gets small when you look at it",
        ),
    )


def sleepless(w: World) -> None:
    """The hero cannot sleep for a reason; several remedies fail, and the right one meets it."""
    w.cast_child("h")
    w.cast_kin()
    w.open()
    w.belonging("o", TOYS, sizes="s")
    reason, cure, why = w.pick(
        (
            (
                "it was too quiet",
                "{k} sang a soft song about the [moon|sea|stars|sheep]",
                "the song filled the quiet room",
            ),
            ("it was too dark", "{k} left a small light in the hall", "there was a small light"),
            (
                "{h.his} feet were cold",
                "{k} brought {h.him} a pair of woolly socks",
                "{h.his} feet were warm now",
            ),
            (
                "{h.he} missed {h.his} {o}",
                "{k} found the {o} in the kitchen and brought it",
                "{h} had the {o} in {h.his} arms",
            ),
            (
                "{h.he} had had a bad dream",
                "{k} held {h.him} and told {h.him} a good dream",
                "the bad dream was gone",
            ),
            (
                "the next day was the first day of school"
                if not w.animals
                else "the next day was a long journey",
                "{k} told {h.him} how exciting it would be",
                "now {h.he} looked forward to it",
            ),
            (
                "the bed felt too big",
                "{k} put all the soft toys around {h.him}",
                "the bed was full of friends",
            ),
            (
                "the wind knocked at the window",
                "{k} said that the wind only wanted to say good night",
                "the wind was only saying good night",
            ),
        )
    )
    w.put("reason", reason)
    w.put("cure", cure)
    w.put("relief", why)
    if "had the" in w.slots["relief"]:
        w.give("o", "h")
        w.tell("{h} always slept with {h.his} {o}.", "{h} never went to bed without {h.his} {o}.")
    w.paragraph()
    w.tell(
        "one night, {h} lay in bed and looked at the ceiling.",
        "it was late, but {h} was still awake.",
        "everyone in the house was asleep, except {h}.",
    )
    w.note("awake", "h", "reason")
    w.hurt("h", "sleepless", "{reason}")
    w.tell(
        "{h.he} counted [sheep|stars|ducks|frogs|clouds], one, two, three. It did not help.",
        "{h.he} turned to the left and to the right. It did not help.",
    )
    w.tell(
        "{h.he} drank a [glass|cup] of water. It did not help.",
        "{h.he} hummed a little tune. It did not help.",
    )
    w.tell(
        "{h} got up and walked on bare feet to {k}."
        if not w.animals
        else "{h} got up and went to {k}.",
        "softly, {h} called {k}.",
    )
    w.say("h", "I can't sleep.", "I have tried everything, but I can't sleep.", how="whispered")
    w.say("k", "What is it, my dear?", "Do you know why?", "Tell me all about it.", how="asked")
    w.tell("{h} told {k} that {reason}.")
    w.say(
        "k",
        "I see. I know what will help.",
        "That happens to everybody sometimes.",
        "It is good that you told me.",
    )
    w.paragraph()
    w.tell("so {cure}.", "then {cure}.")
    w.note("cure", "k", "cure")
    w.heal("h", "{relief}")
    w.say("k", "Good night, {h}.", "Sleep well, little one.", "Sweet dreams.", how="whispered")
    w.close(
        "{h} smiled, and before {k} reached the door, {h.he} was asleep.",
        "a minute later, {h} was fast asleep.",
        "and {h} dreamed of [flying|candy|the sea|"
        "a garden|a ship|the stars] until the sun came up.",
        moral=("it helps to tell somebody what is wrong", "somebody who loves you will listen"),
    )
