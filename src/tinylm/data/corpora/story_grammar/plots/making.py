"""Plots about making something: a plant, a meal, a building."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.lexicon import DISHES, PLANTS
from tinylm.data.corpora.story_grammar.world import World


def garden(w: World) -> None:
    """A seed is planted; it takes patience, something threatens it, and it grows."""
    w.cast_child("h")
    w.cast_kin()
    w.open()
    plant = w.pick(PLANTS)
    w.slots.update(plant=plant.name, fruit=plant.result, use=plant.use)
    w.paragraph()
    w.put("event", "{k} gave {h} a [tiny|small|round|brown|flat] seed")
    w.tell("one [spring|April|warm] [day|morning], {event}.", "in [March|April|May], {event}.")
    w.say("h", "What is it?", "What will it be?", "So small! What can it do?", how="asked")
    w.say(
        "k",
        "Plant it and wait. You will see.",
        "If you take care of it, it will be a {plant}.",
        how="answered",
    )
    w.note("got", "h", "plant")
    w.tell(
        "{h} dug a [small |]hole [in the garden|near the fence|by the wall] and put the seed in.",
        "{h} filled a pot with [dark|soft] earth and pushed the seed in with one finger."
        if not w.animals
        else "{h} put the seed into the soft dark earth.",
    )
    w.tell("every [day|morning|evening], {h.he} [watered it|gave it water].")
    w.tell(
        "one day went by, then two, then a whole week. Nothing happened.",
        "but day after day, there was only earth.",
    )
    w.hurt("h", "sad", "[the seed did not grow|nothing came up|there was no {plant} to see]")
    w.say("k", "Good things need time.", "Under the earth, it is growing. Be patient.")
    w.paragraph()
    w.tell(
        "then, one morning, there was a tiny green [leaf|shoot|tip]!",
        "after a warm rain, something green looked out of the earth.",
    )
    w.heal("h", "[the {plant} was growing|the seed had come up at last]")
    danger = w.pick(("snails", "dry", "cold", "goat", "none"))
    if danger == "snails":
        w.tell("at night, hungry snails came. {h} carried them all to the other side of the fence.")
    elif danger == "dry":
        w.tell(
            "in June it did not rain. {h} carried water from the [well|stream], bucket by bucket."
        )
    elif danger == "cold":
        w.tell(
            "one night it got cold, and {h} covered the little plant with a [cloth|hat|blanket]."
        )
    elif danger == "goat":
        w.tell("a goat wanted to eat it, so {h} built a small fence of sticks.")
    w.tell(
        "the {plant} grew and grew. It was as high as {h.s} [ankle|knee].",
        "the {plant} got more and more leaves.",
        "week by week, the {plant} got bigger.",
    )
    w.tell(
        "at the end of the summer, there was a {fruit}!",
        "and then {h} saw it: a {fruit}!",
        "in [August|September], it gave {h} a {fruit}.",
    )
    w.give("fruit", "h")
    w.note("grew", "plant", "fruit")
    w.tell(
        "{h} picked it and {use}."
        if not plant.edible
        else "{h} picked it and {use}. {k} got half of it."
    )
    w.close(
        "{h} kept [a seed|some seeds] for the next spring.",
        '"You were patient," said {k}. "That is how gardens are made."',
        "now {h} wanted to plant a whole garden.",
        moral=(
            "good things take time",
            "patience makes things grow",
            "if you care for something, it grows",
        ),
    )


def cooking(w: World) -> None:
    """Something is missing for a dish; a neighbour gives it and is invited."""
    w.cast_child("h")
    w.cast_kin()
    w.cast_grown_up()
    dish = w.pick(DISHES)
    missing = w.pick(dish.needs)
    others = [need for need in dish.needs if need != missing]
    w.slots.update(
        dish=dish.name,
        missing=missing,
        step=dish.step,
        smell=dish.smell,
        first=others[0],
        second=others[1],
        them="them" if dish.plural else "it",
        were="were" if dish.plural else "was",
    )
    w.open()
    w.paragraph()
    w.put(
        "why_cook",
        "[it was {k.s} birthday|it was raining outside|they were hungry|"
        "it was Sunday|guests were coming]",
    )
    w.tell(
        "one day, {h} and {k.own} wanted to make {dish}, because {why_cook}.",
        "{why_cook}, so {h} and {k.own} wanted to make {dish}.",
    )
    w.tell(
        "{h} put on an apron and washed {h.his} {h.hand}s.",
        "they took out a big [bowl|pot] and a wooden spoon.",
    )
    w.tell(
        "{h} got the {first} and the {second}. But there was no {missing}!"
        if missing[-1] != "s"
        else "{h} got the {first} and the {second}. But there were no {missing}!"
    )
    w.note("missing", "missing", "dish")
    w.hurt("h", "sad", "[there could be no {dish} without {missing}|they had no {missing}]")
    w.say("k", "Maybe {g} can help us.", "Go and ask {g}, {h}.")
    w.paragraph()
    w.tell("{h} <hurried> to {g} and knocked at the door.", "{h} went to {g} with an empty cup.")
    w.say(
        "h",
        "Please, can you give us some {missing}? We are making {dish}.",
        "We have no {missing}. Do you have some for us?",
        how="asked",
    )
    w.say(
        "g",
        "Of course. Here you are.",
        "I have enough {missing}. Take this, dear.",
        "You came to the right place!",
        how="answered",
    )
    w.note("gave", "g", "missing", "h")
    w.give("missing", "h")
    w.tell("{g} gave {h} the {missing}.", "{h} thanked {g} and carried the {missing} home.")
    w.heal("h", "[now they had the {missing}|{g} had given {h.him} the {missing}]")
    w.tell("{h} added the {missing}, and {k} {step}.", "then {k} {step}, and {h} helped.")
    w.take("missing")
    w.tell(
        "<soon> the whole house smelled of {smell}.",
        "the smell of {smell} came out of the kitchen.",
    )
    w.tell("the {dish} {were} ready!", "at last, the {dish} {were} done.")
    w.paragraph()
    w.say("h", "Can we invite {g}?", "Let's ask {g} to come too.", "{g} should have some as well.")
    w.note("invited", "h", "g")
    w.tell("so {g} came and sat down at the table.", "{h} set three plates, and {g} came over.")
    w.say(
        "g",
        "The {dish} {were} worth the {missing}!",
        "This is the best meal of my life!",
        how="laughed",
    )
    w.close(
        "they ate until nothing was left.",
        "everybody had some of the {dish}, and it was a happy [day|evening].",
        "{h} was <proud> of the {dish}.",
        moral=(
            "a shared meal tastes best",
            "good neighbors help each other",
            "it is nice to give something back",
        ),
    )


# (what is built, of what, where, what knocks it over, how it is made stronger)
_BUILDINGS = (
    (
        "sand castle",
        "wet sand and shells",
        "the beach",
        "a big wave washed it away",
        "farther from the water, with a deep ditch around it",
    ),
    (
        "dam",
        "stones and mud",
        "the river",
        "the water broke through it",
        "with bigger stones and thick branches",
    ),
    (
        "hut",
        "branches and leaves",
        "the forest",
        "a strong wind blew it down",
        "with rope and a strong post in the middle",
    ),
    (
        "tower",
        "boxes and boards",
        "the yard",
        "it tipped over with a crash",
        "with the biggest boxes at the bottom",
    ),
    (
        "raft",
        "sticks and string",
        "the lake",
        "it fell apart in the water",
        "with thick logs and tight knots",
    ),
    (
        "bird house",
        "thin boards and nails",
        "the garden",
        "the roof fell off",
        "with longer nails and a thick roof",
    ),
    (
        "tent",
        "an old sheet and sticks",
        "the meadow",
        "the rain came through and it fell down",
        "with stones on the edges and a thick cover",
    ),
    (
        "bridge",
        "boards and stones",
        "the pond",
        "it broke in the middle",
        "with a strong post under the middle",
    ),
    ("snow fort", "snow", "the hill", "the warm sun melted it", "in the shadow of the trees"),
)


def building(w: World) -> None:
    """Two build something; it falls, they find out why, and build it better."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    what, stuff, where, fall, better = w.pick(_BUILDINGS)
    while w.animals and where == "the beach":
        what, stuff, where, fall, better = w.pick(_BUILDINGS)
    w.place((where,))
    w.slots.update(o=what, stuff=stuff, fall=fall, better=better)
    w.open(friend=True)
    w.paragraph()
    if what == "snow fort":
        w.put("event", "{h} and {f} were {at}")
        w.tell("one [winter|snowy] [day|morning], {event}.")
    else:
        w.one_day("{h} and {f} were {at}", "{h} met {f} {at}")
    w.say(
        "h",
        "Let's build a {o}!",
        "I want to build a {o}. Will you help me?",
        "Shall we build a {o}, a really big one?",
    )
    w.tell(
        "they collected {stuff}.",
        "they needed {stuff}, and they found enough of it."
        if "and" not in stuff
        else "they needed {stuff}, and they found enough.",
    )
    w.tell(
        "they worked [all morning|for hours|hard]. {h} [carried|brought] things, and {f} put them "
        "in the right place.",
        "{f} had the ideas, and {h} did the heavy work.",
    )
    w.tell("at noon, the {o} was ready. It looked <nice>.", "the {o} was done!")
    w.note("built", "h", "f", "o")
    w.tell("but then {fall}.", "they stepped back to look. Then {fall}!")
    w.note("fell", "o", "fall")
    w.hurt(
        "f",
        "sad" if w.chance(0.6) else "angry",
        "[the {o} was ruined|all the work was for nothing]",
    )
    w.say(
        "f", "I don't want to build anything ever again.", "It is no use.", "Our {o}!", how="sobbed"
    )
    w.paragraph()
    w.focus("h")
    w.tell("{h} was sorry too, but {h.he} <thought>.", "{h} looked at what was left and <thought>.")
    w.say(
        "h",
        "Now we know what was wrong.",
        "We can build it again, and better.",
        "It broke, so we have learned something.",
    )
    w.tell("so they built the {o} again, {better}.", "this time they built it {better}.")
    w.note("rebuilt", "h", "f", "o", "better")
    w.tell("they waited. The new {o} [stood|held]!", "they held their breath. The {o} was strong!")
    w.heal("f", "[the new {o} was strong|the {o} did not break again]")
    w.tell(
        "they put a [flag|feather|flower|paper star] on it.",
        "they danced around the {o}.",
        "they gave it a name and laughed.",
    )
    w.close(
        "everybody came to see the {o}.",
        "{h} and {f} were <proud> of the {o}.",
        "the {o} was still there the next day, and the day after that.",
        moral=(
            "if something breaks, you can try again",
            "we learn from our mistakes",
            "two heads are better than one",
        ),
    )
