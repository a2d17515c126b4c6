"""The plot about learning: a skill that takes practice."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.world import World

# (infinitive, how it failed, advice, what it looked like when it worked, people only)
_SKILLS = (
    (
        "ride a bike",
        "fell into the grass",
        "Look ahead and keep pedaling.",
        "rode all the way to the corner",
        True,
    ),
    (
        "swim",
        "swallowed a lot of water",
        "Kick your legs like a frog.",
        "swam across the pool",
        True,
    ),
    ("whistle", "only blew air", "Make your lips small and round.", "whistled a whole song", False),
    (
        "skip rope",
        "got the rope around both feet",
        "Jump when the rope touches the ground.",
        "jumped twenty times",
        False,
    ),
    (
        "draw a horse",
        "made it look like a potato",
        "Begin with big circles.",
        "drew a horse with a long tail",
        False,
    ),
    ("juggle", "dropped every ball", "Start with only two balls.", "juggled three balls", False),
    (
        "skate",
        "sat down hard on the ice",
        "Bend your knees a little.",
        "glided over the ice",
        False,
    ),
    (
        "play the piano",
        "hit the wrong keys",
        "Play it slowly first.",
        "played the song without a mistake",
        True,
    ),
    ("play the flute", "made it squeak", "Blow softly.", "played a clear, sweet tune", False),
    (
        "do a cartwheel",
        "landed with a bump",
        "Put your arms down one after the other.",
        "turned like a wheel",
        False,
    ),
    (
        "climb a rope",
        "slid to the ground",
        "Use your legs as well as your arms.",
        "climbed up to the top",
        False,
    ),
    (
        "tie a knot",
        "made a big mess of string",
        "Make two loops like the ears of a rabbit.",
        "tied a perfect knot",
        False,
    ),
    (
        "fly a kite",
        "dragged it over the ground",
        "Run against the wind.",
        "made the kite dance in the sky",
        False,
    ),
    (
        "read",
        "mixed up all the letters",
        "Say the sounds one by one.",
        "read a whole page aloud",
        False,
    ),
    (
        "dance",
        "stepped on everyone's toes",
        "Listen to the drum and count to four.",
        "danced across the room like a feather",
        False,
    ),
    (
        "stand on one leg",
        "fell over like a tree",
        "Look at one point and breathe.",
        "stood like a stork",
        False,
    ),
    (
        "catch a ball",
        "closed both eyes and missed",
        "Keep your eyes on the ball.",
        "caught the ball ten times",
        False,
    ),
    (
        "bake a cake",
        "burned it black",
        "Watch the clock and turn the heat down.",
        "baked a soft golden cake",
        False,
    ),
    (
        "row a boat",
        "only went in circles",
        "Pull both oars at the same time.",
        "rowed to the other side of the lake",
        False,
    ),
    (
        "write {h.his} name",
        "turned the letters around",
        "Write each letter in the air first.",
        "wrote it in big clear letters",
        False,
    ),
)


def learning(w: World) -> None:
    """The hero cannot do something, is laughed at or helped, practises, and can."""
    w.cast_child("h")
    if w.chance(0.5):
        w.cast_kin()
    else:
        w.cast_child("k", unlike="h")
        w.slots["k.own"] = f"{w.slots['h.his']} friend {w.slots['k']}"
    skill = w.pick(_SKILLS)
    while w.animals and skill[4]:
        skill = w.pick(_SKILLS)
    for slot, text in zip(("skill", "fail", "tip", "win"), skill[:4], strict=True):
        w.put(slot, text)
    w.open()
    w.tell(
        "{h} wanted to learn to {skill}.",
        "there was one thing that {h} wished to learn: to {skill}.",
        "all the others could {skill}, but {h} could not.",
    )
    w.note("wanted", "h", "skill")
    w.paragraph()
    w.one_day("{h} tried it for the first time", "{h} made up {h.his} mind to try", at=False)
    w.tell("but {h.he} {fail}.", "{h.he} tried hard, but {h.he} {fail}.")
    w.tell(
        "the second time, {h} {fail} again.",
        "{h.he} tried again, and {fail} again.",
        "{h} tried again and again, but it did not work.",
    )
    if w.chance(0.4):
        w.tell(
            "some [others|children|big ones] laughed." if not w.animals else "some crows laughed."
        )
    w.hurt("h", "sad", "[{h} could not {skill}|it did not work|{h} {fail} every time]")
    w.say("h", "I will never learn it!", "It is too hard for me.", "I give up!", how="sobbed")
    w.paragraph()
    w.tell("{k.own} [sat down next to {h}|came over|had watched it].")
    w.say(
        "k",
        "Nobody can do it the first time.",
        "I could not do it at first.",
        "You can't do it yet. Yet is a magic word.",
        "Do you know how often I fell down?",
    )
    w.say("k", "{tip}")
    w.note("advice", "k", "tip")
    w.tell(
        "so {h} practiced every [day|morning|evening|afternoon].",
        "{h} practiced on Monday, on Tuesday and on all the other days.",
        "{h} remembered the advice and tried once more.",
    )
    w.tell(
        "it got a little better each time.",
        "first it went badly, then not so badly, then well.",
        "{k} helped {h.him} and did not lose patience.",
    )
    w.tell("and then, one day, {h} {win}!", "at last the day came. {h} {win}!")
    w.note("learned", "h", "skill")
    w.heal("h", "[now {h.he} could {skill}|{h.he} had learned to {skill}]")
    w.say("h", "I did it! I did it!", "Look at me, {k}! I can do it!", how="cried")
    w.say("k", "I knew you could do it.", "You did not give up. That is the secret.", how="laughed")
    w.paragraph()
    w.close(
        "{h} was <proud>.",
        "later, {h} taught a smaller {h.kind} to {skill}.",
        "that night, {h} was too happy to sleep.",
        "the next day, {h} showed it to the whole [village|family|class]."
        if not w.animals
        else "the next day, {h} showed it to the whole family.",
        moral=(
            "practice makes perfect",
            "you must not give up too soon",
            "everyone has to start small",
            "a mistake is a step to learning",
        ),
    )
