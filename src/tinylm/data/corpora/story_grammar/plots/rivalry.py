"""Plots about measuring oneself with others: boasting and a race."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.world import World


def boasting(w: World) -> None:
    """A big one laughs at a small one, gets into trouble, and just smallness helps."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.place(outdoors=True)
    w.open(friend=True)
    w.put("strong", "[strong|tall|fast]")
    w.tell(
        "{f} was {strong}, and {h} was the smallest of all.",
        "{h} was very small. {f} was {strong} and liked to show it.",
    )
    w.paragraph()
    w.one_day("{f} and {h} were {at}", "the two friends were {at}")
    w.say(
        "f",
        "You are too small for anything!",
        "Look how {strong} I am! And you?",
        "Small ones can't do anything.",
        how="laughed",
    )
    w.hurt("h", "sad", "{f} laughed at {h.him}")
    w.paragraph()
    trouble = w.pick(
        (
            (
                "got {f.his} foot stuck between two [rocks|roots|logs|boards]",
                "dug away the dirt with small {h.hand}s",
                "{f.s} foot was free",
                "{f.s} foot was stuck",
            ),
            (
                "dropped {f.his} key into a narrow [crack|pipe|hole]",
                "reached into the gap with a thin arm and pulled it out",
                "{f.he} had the key again",
                "{f.he} could not go home without the key",
            ),
            (
                "fell into a thorn bush, and the thorns held {f.him} tight",
                "crawled under the thorns and loosened them one by one",
                "the thorns did not hold {f.him} anymore",
                "every thorn hurt",
            ),
            (
                "was shut in an old shed, and the door would not open",
                "slipped through a small window and opened the lock",
                "the door was open",
                "it was dark in the shed",
            ),
            (
                "got tangled up in a [fishing net|rope]",
                "opened all the tiny knots",
                "{f.he} was free again",
                "the knots were too tight",
            ),
        )
    )
    w.put("trouble", trouble[0])
    w.put("deed", trouble[1])
    w.put("saved", trouble[2])
    w.tell("a little later, {f} {trouble}.", "but then {f} {trouble}!")
    w.note("trouble", "f", "trouble")
    w.hurt("f", "afraid", trouble[3])
    w.tell(
        "{f} pulled and pushed, but being {strong} did not help.",
        "it was no use to be {strong} now.",
    )
    w.say("f", "Help! Please, somebody help me!", "{h}, please help me!", how="cried")
    w.tell(
        "{h} could have walked away. But {h.he} did not.",
        "{h} came at once.",
        "{h} did not think of the mean words.",
    )
    w.say("h", "Wait! I am small enough to do it.", "Don't worry. I have an idea.")
    w.tell("{h} {deed}.", "<then> {h} {deed}. It took a long time.")
    w.note("saved", "h", "f", "deed")
    w.heal("f", "{saved}")
    w.paragraph()
    w.say(
        "f",
        "I am sorry that I laughed at you.",
        "I was wrong. Small ones can do big things.",
        "You helped me, and I was so mean. I am sorry.",
    )
    w.heal("h", "[{f} had said sorry|{f} did not laugh at {h.him} anymore]")
    w.close(
        "from that day on, {f} never laughed at {h} again.",
        "{f} carried {h} home and told everyone what {h} had done.",
        "they became the best of friends, the big one and the small one.",
        moral=(
            "even the smallest can help",
            "nobody is too small to help",
            "you should never laugh at others",
            "being kind is better than being {strong}",
        ),
    )


def race(w: World) -> None:
    """A race; one falls, and the other has to choose between winning and helping."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.place(outdoors=True)
    w.open(friend=True)
    w.put("prize", "[medal|ribbon|cup|crown of flowers|big cake|basket of fruit|blue flag]")
    w.put(
        "goal",
        "[the old oak|the bridge|the mill|the red barn|the big rock|the fountain|the well|"
        "the gate]",
    )
    w.tell("both of them [could run fast|loved to run].", "{f} ran fast, but {h} ran fast too.")
    w.paragraph()
    w.put("event", "there was a [big |]race {at}")
    w.tell("one [day|morning|Sunday|summer day], {event}.", "in [May|June|July|August], {event}.")
    w.weather(0.4, ("sunny", "windy"))
    w.tell(
        "the runners had to go to {goal} and back. The prize was a {prize}.",
        "whoever came to {goal} first would get a {prize}.",
    )
    w.note("wanted", "h", "prize")
    w.say("h", "I will win the {prize}!", "I want to win so much.", "I have practiced for weeks.")
    w.tell("ready, set, go! Everybody ran.", "one, two, three, and off they went!")
    w.tell(
        "{h} was first, and {f} was close behind.", "{h} and {f} were faster than all the others."
    )
    w.tell(
        "<suddenly> {f} [tripped over a root|slipped on a wet leaf|stepped into a hole] and fell.",
        "then {h} heard a cry. {f} had [tripped and fallen|fallen over a stone].",
    )
    w.hurt("f", "sad", "{f.his} [knee|ankle|foot] hurt")
    w.paragraph()
    w.focus("h")
    w.tell("{h} saw {goal}. It was so near!", "{h} could almost touch {goal}.")
    if w.chance(0.65):
        w.tell(
            "but {h.he} stopped and went back to {f}.",
            "but a friend was more important. {h} turned around.",
        )
        w.say("h", "Are you all right? Lean on me.", "Take my {h.hand}. We will go together.")
        w.note("helped", "h", "f")
        w.tell(
            "[arm in arm|side by side|slowly], they walked to {goal}. They were the last.",
            "{h} helped {f} up, and they went on together, step by step.",
        )
        w.heal("f", "{h} had come back to help")
        w.tell("everybody clapped.", "all the others cheered for them.")
        w.put(
            "judge",
            "[the judge|the old teacher|the mayor]" if not w.animals else "[the old owl|the judge]",
        )
        w.say(
            "judge",
            "The {prize} is for the best friend of all.",
            "Today a kind heart wins the {prize}.",
        )
        w.give("prize", "h")
        w.tell(
            "and {judge} gave the {prize} to {h}, who shared it with {f}."
            if "cake" in w.slots["prize"] or "basket" in w.slots["prize"]
            else "and {judge} gave the {prize} to {h}."
        )
        w.close(
            "{h} was <proud>, and {f} was proud of {h}.",
            "that was better than coming in first.",
            "{f} said that {h} was the true winner.",
            moral=("a friend is more important than a prize", "helping is better than winning"),
        )
    else:
        w.tell("{h} ran on and was the first at {goal}.", "{h.he} did not stop, and won.")
        w.give("prize", "h")
        w.tell(
            "{h} got the {prize}. But {f} still sat on the ground.",
            "everybody clapped, and {h} got the {prize}. But where was {f}?",
        )
        w.hurt("h", "sorry", "{h} had not helped {f}")
        w.tell("{h} took the {prize} and <hurried> back to {f}.")
        w.say(
            "h",
            "I am sorry. I should have stopped. The {prize} is yours.",
            "I only thought of winning. Please take the {prize}.",
        )
        w.give("prize", "f")
        w.note("gave", "h", "prize", "f")
        w.heal("f", "{h} had come back after all")
        w.say("f", "Thank you, {h}. Next time we will run together.", "It is all right, {h}.")
        w.heal("h", "{f} [was not angry|had forgiven {h.him}]")
        w.close(
            "{h} carried {f.s} bag home, and {f} carried the {prize}.",
            "then {h} helped {f} home, step by step.",
            moral=("winning is nothing without a friend", "it is never too late to be kind"),
        )
