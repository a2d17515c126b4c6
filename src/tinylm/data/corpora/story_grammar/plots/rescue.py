"""Plots about getting out of trouble: lost in a crowd, stuck up high, caught in a storm."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.world import World


def lost_child(w: World) -> None:
    """The hero loses sight of the family in a crowd; a stranger helps by asking the right thing."""
    w.cast_child("h")
    w.cast_kin()
    w.cast_grown_up()
    w.place(
        (
            "the market",
            "the zoo",
            "the village square",
            "the beach",
            "the park",
            "the farm",
            "the forest",
            "the lake",
        )
    )
    w.open()
    w.paragraph()
    w.one_day("{h} went to {place} with {k.own}", "{k.own} took {h} to {place}")
    w.say("k", "Stay close to me.", "Hold my {h.hand}, {h}.", "Don't run away, please.")
    w.put(
        "lure",
        "[a clown|a big balloon|a juggler|a yellow butterfly|a funny dog|a parrot|"
        "a monkey|a white pony]"
        if not w.animals
        else "[a yellow butterfly|a shiny beetle|a blue dragonfly|a jumping frog|a colorful bird]",
    )
    w.tell(
        "but then {h} saw {lure} and [ran after it|stopped to look|followed it].",
        "but {h} saw {lure} and forgot everything else.",
    )
    w.note("followed", "h", "lure")
    w.tell(
        "when {h.he} looked around, {k} was [gone|nowhere to be seen].",
        "when {h.he} turned back, {h.he} could not see {k} anymore.",
    )
    w.hurt("h", "afraid", "[{h} was all alone|{h} could not find {k}|{k} was gone]")
    w.paragraph()
    w.tell("{g} saw {h} and [knelt down|came closer].", "{g} stopped and smiled at {h}.")
    w.say(
        "g",
        "Are you lost, little one?",
        "What is the matter, my dear?",
        "Where is your family?",
        how="asked",
    )
    w.say("h", "I can't find {k.call}!", "I have lost {k.call}.", "I am lost.", how="sobbed")
    w.put("wear", "[red|blue|green|yellow|purple|white|orange] [hat|scarf|coat|shawl|apron]")
    w.say("g", "What does {k.call} look like?", "Tell me what {k.call} is wearing.", how="asked")
    w.say(
        "h",
        "{k.call} has a {wear}.",
        "You can see the {wear} from far away. {k.call} wears it every day.",
        how="answered",
    )
    w.tell(
        '{g} lifted {h} up high. "Now look around for the {wear}," said {g}.'
        if not w.animals
        else "they climbed on a rock and looked around for a {wear}.",
        "they walked along together and looked for a {wear}.",
    )
    w.maybe(0.5, "they saw many others, but nobody with a {wear}.")
    w.say("h", "There! I see the {wear}!", "Look, there is {k.call}!", how="cried")
    w.note("found", "h", "k", "wear")
    w.tell(
        "{k} <hurried> to {h} and gave {h.him} a <hug>.",
        "{h} ran as fast as {h.he} could and jumped into {k.s} arms.",
    )
    w.heal("h", "[{k} was there again|{h} had found {k}|{k} held {h} tight]")
    w.paragraph()
    w.say("k", "Thank you for helping {h}!", "How can I thank you?", "You are very kind.")
    w.say(
        "g",
        "I was happy to help.",
        "It was nothing. Your little one was very brave.",
        how="answered",
    )
    w.close(
        "from then on, {h} always stayed close to {k} {at}.",
        "{h} waved to {g} and held {k.s} {h.hand} all the way home.",
        "at home, {h} drew a picture of {g} with a big heart."
        if not w.animals
        else "the next day, {h} brought {g} a bunch of flowers.",
        moral=(
            "it is good to stay close together",
            "there are kind helpers everywhere",
            "when you are lost, you should stay calm and ask for help",
        ),
    )


def stuck_up_high(w: World) -> None:
    """Something is stuck out of reach; one way fails, another way works."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_grown_up()
    w.place(
        (
            "the park",
            "the garden",
            "the farm",
            "the village square",
            "the hill",
            "the orchard",
            "the forest",
            "the meadow",
        ),
        outdoors=True,
    )
    w.open(friend=True)
    w.paragraph()
    pet = not w.animals and w.chance(0.5)
    w.put("high", "[a tall tree|an old oak|the roof of a shed|a high branch|a pine tree]")
    if pet:
        w.put("o", "[black|gray|white|orange|striped|fluffy] [kitten|cat]")
        w.slots["o.n"] = w.slots["o"].split()[-1]
        w.give("o", "h")
        w.one_day("{h} and {f} were {at} with {h.s} {o}")
        w.tell(
            "a dog barked, and the {o.n} [climbed|ran] up to {high}.",
            "the {o.n} chased a bird up to {high}.",
        )
        w.tell("it did not dare to come down. It [meowed and meowed|cried].")
    else:
        w.put("o", "[red|blue|green|yellow|purple|striped] [kite|balloon|ball|frisbee|toy plane]")
        w.slots["o.n"] = w.slots["o"].split(" ", 1)[1]
        w.give("o", "h")
        w.one_day("{h} and {f} were playing {at} with {h.s} {o}")
        w.tell(
            "the wind blew the {o.n} up to {high}, and it got stuck.",
            "the {o.n} went up, up, up, and got stuck on {high}.",
        )
    w.definite("high")
    w.note("stuck", "o", "high")
    w.hurt("h", "sad", "[the {o} was stuck|{h} could not reach the {o}]")
    w.paragraph()
    w.say("f", "Maybe we can reach it with a stick.", "Climb on my back!", "Let me jump.")
    w.tell(
        "they tried, but {high.the} was too high.",
        "but it was no use. They were too small.",
        "{f} jumped three times, but {f.he} was too short.",
    )
    w.say("h", "We will never get it down.", "What can we do now?", how="sobbed")
    w.tell("then {g} [came by|came along the path].", "{g} heard them and stopped.")
    w.say(
        "h",
        "Please, can you help us? My {o.n} is stuck.",
        "My {o.n} is up there, and we can't reach it!",
        how="begged",
    )
    if pet and w.chance(0.5):
        w.put("bait", "[bowl of milk|piece of fish|bit of cheese]")
        w.say("g", "Sometimes you have to be clever.", "I know what cats like.")
        w.tell("{g} put a {bait} on the ground. The {o.n} smelled it and came down, step by step.")
        w.slots["means"] = w.slots["bait"]
    else:
        w.put(
            "means",
            "[ladder|long pole|rope|long rake|fishing rod]"
            if not w.animals
            else "[ladder|long stick|rope]",
        )
        if pet:
            w.slots["means"] = "ladder"
        w.say("g", "Of course I can. Wait here.", "I have just the right thing for that.")
        w.tell(
            "{g} brought a {means} and <carefully> got the {o.n} down.",
            "with a {means}, {g} reached up and got the {o.n}.",
        )
    w.note("rescued", "g", "o", "means")
    w.tell("{g} put the {o.n} into {h.s} arms.", '"Here you are," said {g} and gave {h} the {o.n}.')
    w.give("o", "h")
    w.heal("h", "[the {o.n} was safe|{h} had the {o.n} back]")
    w.paragraph()
    w.food("snack")
    w.close(
        "to say thank you, {h} and {f} gave {g} a {snack}.",
        "{h} and {f} helped {g} carry the {means} home."
        if w.slots["means"] in ("ladder", "long pole", "rope")
        else "{h} and {f} thanked {g} again and again.",
        "after that, {h} kept the {o.n} away from {high.the}.",
        moral=(
            "it is all right to ask for help",
            "when one way does not work, you can try another",
            "someone bigger can often help",
        ),
    )


def storm(w: World) -> None:
    """A storm comes; somebody is missing or afraid, and they wait for its end together."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    w.place(
        (
            "the park",
            "the beach",
            "the meadow",
            "the hill",
            "the lake",
            "the river",
            "the farm",
            "the forest",
            "the orchard",
        ),
        outdoors=True,
    )
    w.open(friend=True)
    w.paragraph()
    w.put("event", "{h} and {f} were playing {at}")
    w.tell(
        "one [hot|warm|gray] [day|afternoon], {event}.",
        "in the middle of [summer|July|August], {event}.",
    )
    w.detail(0.5)
    w.tell(
        "<suddenly> the sky turned dark.",
        "big black clouds came up behind the trees.",
        "the wind grew stronger and stronger.",
    )
    w.tell("the first [heavy|fat|cold] drops of rain fell.", "it began to rain [hard|heavily].")
    w.tell(
        "boom! Thunder rolled over {place}.", "there was a flash of lightning, and then thunder."
    )
    w.note("storm", "place")
    w.hurt("f", "afraid", "[the thunder was so loud|the lightning was so bright]")
    w.say("f", "I want to go home!", "I am scared!", "Where can we go?", how="cried")
    w.put(
        "shelter",
        w.pick(
            (
                "an old hut",
                "a small cave",
                "an empty barn",
                "a hunter's cabin",
                "a little chapel",
                "a stone bridge",
                "a hay shed",
            )
        ),
    )
    w.say(
        "h",
        "Come with me! I know a dry place.",
        "Hold my {h.hand}! We must get away from the trees.",
        "Don't stay under the trees. Follow me!",
        how="cried",
    )
    w.tell("they ran to {shelter}.", "not far away, there was {shelter}. They ran there.")
    w.note("hid", "h", "f", "shelter")
    w.paragraph()
    w.tell(
        "inside, it was dry, but the thunder was still loud."
        if "bridge" not in w.slots["shelter"]
        else "there it was dry, but the thunder was still loud."
    )
    how = w.pick(("count", "sing", "tell"))
    if how == "count":
        w.say("h", "Let's count from the flash to the thunder.")
        w.tell("one, two, three! One, two, three, four, five! The storm was going away.")
        w.put("relief", "the storm was moving away")
    elif how == "sing":
        w.put("song", "[frogs|stars|ducks|the moon|three bears|a silly goat|pirates]")
        w.say("h", "We can sing louder than the thunder!")
        w.tell("so they sang a song about {song}, louder and louder.")
        w.put("relief", "they sang louder than the thunder")
    else:
        w.put(
            "song",
            "[a cloud with a cold|a giant who played the drum|clouds that bumped their "
            "heads|angels who moved chairs]",
        )
        w.say("h", "Shall I tell you a story?")
        w.tell("{h} told a story about {song}. {f} had to laugh.")
        w.put("relief", "the story made {f} laugh")
    w.heal("f", "{relief}")
    w.tell("at last, the rain stopped.", "an hour later, the sun came out.")
    w.tell(
        "a rainbow stood over {place}.",
        "the whole world smelled fresh and clean.",
        "there were puddles everywhere, and they jumped in all of them.",
    )
    w.paragraph()
    w.tell(
        "{k.of} came running with [an umbrella|a lantern|two raincoats|dry towels].",
        "then they saw {k.of}, who had looked for them everywhere.",
    )
    w.say("k", "I was so worried about you!", "There you are! Are you all right?", how="cried")
    w.say("f", "{h} knew what to do.", "{h} took care of me.", "I was scared, but {h} helped me.")
    w.close(
        "{k} was <proud> of {h}.",
        "at home there was [hot cocoa|warm soup|tea with honey] for everyone.",
        "that night, it thundered again, but {f} only smiled.",
        moral=(
            "together, a storm is only half as bad",
            "it is good to stay calm in a storm",
            "you can be brave for a friend",
        ),
    )
