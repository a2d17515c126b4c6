"""Plots about who has what: losing, finding, sharing and trading."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.lexicon import TOYS, TREASURES
from tinylm.data.corpora.story_grammar.world import World


def _own(w: World, *, sizes: str = "s", treasure: float = 0.4) -> None:
    """Give the hero a belonging ``o`` that later sentences name."""
    toy = not w.chance(treasure)
    w.belonging("o", TOYS if toy else TREASURES, sizes=sizes)
    w.give("o", "h")
    w.tell(
        "{h} had a {o}. {h.he} {o.play}.",
        "{h.his} <best> thing in the [whole |]world was a {o}.",
        "{h} <loved> {h.his} {o} more than anything.",
        "{k.own} had given {h.him} a {o}, and {h} took it everywhere.",
        *(("every day, {h} took out {h.his} {o} and {o.play}.",) if toy else ()),
    )


def lost_and_found(w: World) -> None:
    """The hero loses a thing; it is looked for in vain in one place and found in another."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    place = w.place()
    w.open(friend=True)
    _own(w)
    w.paragraph()
    w.one_day("{h} took the {o} to {place}", "{h} went to {place} with {h.his} {o}")
    w.tell(
        "{h} ran and jumped and did not [watch|think of] the {o.n}.",
        "{h} hummed a tune and looked at everything.",
        "{h} put the {o.n} down to [tie {h.his} shoe|look at a bug|watch a bird]."
        if not w.animals
        else "{h} put the {o.n} down to [smell a flower|look at a bug|watch a bird].",
    )
    w.take("o")
    w.tell(
        "when it was time to go home, the {o.n} was [gone|not there].",
        "<suddenly> {h} saw that the {o.n} was [gone|missing].",
        "then {h} [looked down|turned around]. Where was the {o.n}?",
    )
    w.hurt(
        "h",
        "sad",
        "[the {o} was [gone|lost]|{h} had lost the {o}|{h} could not find the {o}|"
        "{h.his} {o} was missing]",
    )
    w.paragraph()
    w.slots["wrong"], w.slots["right"] = w.pick_two(place.spots)
    w.definite("right")
    w.tell("{f} [came by|came along] and saw it.", "{f} ran up to {h}.", "{f} heard {h}.")
    w.say(
        "f",
        "What is wrong, {h}?",
        "Why are you crying, {h}?",
        "Why do you look so sad?",
        "What happened, {h}?",
        how="asked",
    )
    w.say(
        "h",
        "I lost my {o}.",
        "My {o} is gone! I can't find it anywhere.",
        "I had my {o} with me, and now it is gone.",
        how="sobbed",
    )
    w.say(
        "f",
        "Don't cry. I will help you find it.",
        "Let's look for it together.",
        "We will find it. Four eyes see more than two.",
    )
    w.tell(
        "they <looked> {wrong}, but the {o.n} was not there.",
        "first they <looked> {wrong}. There was only [an old leaf|a sleepy bug|a bit of dust|a "
        "dry stick].",
        "{h} looked {wrong}, but found nothing.",
    )
    if w.chance(0.6):
        w.slots["finder"] = w.slots["f"]
        w.tell(
            "then {f} looked {right}. There was the {o}!",
            "{f} <looked> {right} and saw something [bright|familiar]. It was the {o}!",
        )
        w.note("found", "f", "o", "right")
        w.say(
            "f",
            "Look, {h}! Here it is!",
            "I found it! I found your {o.n}!",
            "Is this your {o.n}? It was {right}!",
            how="cried",
        )
        w.give("o", "h")
        w.tell("{f} gave the {o.n} [back |]to {h}.", "{f} put the {o.n} into {h.s} {h.hand}s.")
        w.heal("h", "[{f} had found the {o.n}|the {o.n} was back]")
        w.say(
            "h",
            "Thank you, {f}! You are a [good|true|real] friend.",
            "Thank you so much! You are the best.",
            "You found it! Thank you, {f}.",
            how="laughed",
        )
        moral = ("a good friend helps you when you are sad", "two can find more than one")
    else:
        w.tell(
            "{f} said that {h} should think hard. Where had {h.he} been? {h} remembered!",
            '"Think of every place where you were," said {f}. {h} closed {h.his} eyes and '
            "remembered.",
        )
        w.tell(
            "{h} <hurried> back and looked {right}. There was the {o}!",
            "{h} looked {right}, and there it was, the {o}!",
        )
        w.note("found", "h", "o", "right")
        w.give("o", "h")
        w.heal("h", "[{h} had the {o.n} again|the {o.n} was not lost]")
        w.say(
            "h",
            "Thank you for helping me think, {f}!",
            "You had a clever idea, {f}. Thank you!",
            how="laughed",
        )
        moral = ("it helps to stop and think", "a calm friend is a great help")
    w.paragraph()
    w.close(
        "that night, {h} slept with the {o.n} next to {h.his} pillow.",
        "from then on, {h} took good care of the {o.n}.",
        "{h} held the {o.n} tight all the way home.",
        "{h} and {f} <played>, and {h} never let go of the {o.n}.",
        "at home, {h} told {k.own} how the {o.n} had been lost and found {right.the}.",
        moral=(*moral, "we should take care of our things"),
    )


def sharing(w: World) -> None:
    """Two want one thing; a quarrel, somebody's idea, and turns."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    w.place()
    w.open(friend=True)
    w.belonging("o", TOYS)
    w.give("o", "h")
    w.tell(
        "for {h.his} birthday, {h} got a {o}.",
        "{h} owned a {o}. {h.he} {o.play}.",
        "{k.own} gave {h} a {o}.",
    )
    w.paragraph()
    w.one_day(
        "{h} and {f} met {at}",
        "{f} came to play with {h} {at}",
        "{h} was {at} with {h.his} {o.n}, and {f} came along",
    )
    w.tell("{h} had brought the {o}.", "{h} was playing with the {o}.")
    w.say(
        "f",
        "What a <nice> {o.n}! May I play with it too?",
        "Can I have a turn with the {o.n}, please?",
        "Oh, I want to try your {o.n}!",
        how="begged",
    )
    w.say(
        "h",
        "No! It is mine.",
        "No, it is my {o.n}. You will break it.",
        "Not now. I don't want to share.",
        how="snapped",
    )
    if w.chance(0.4):
        w.tell(
            "{f} grabbed the {o.n}, and {h} pulled it back. They [pulled and pulled|shouted at "
            "each other].",
            "they both pulled at the {o.n}. It almost [broke|fell].",
        )
        w.note("fought", "h", "f", "o")
    w.hurt("f", "sad", "{h} did not [want to |]share the {o.n}")
    w.tell("{f} went and sat [down alone|under a tree|in a corner].", "{f} turned away.")
    w.paragraph()
    w.tell(
        "{h} played alone, but it was not [much |]fun.",
        "now {h} had the {o.n}, but nobody to play with.",
        "{h} went on playing, but {h.he} did not laugh anymore.",
    )
    if w.chance(0.5):
        w.tell("{k.of} saw it all.", "{k} had seen everything.")
        w.say(
            "k",
            "{h}, look at {f}. How would you feel?",
            "A toy is more fun with a friend.",
            "What if you take turns?",
            "When you share, nobody has to be sad.",
        )
        w.focus("h")
        w.tell("{h} <thought>.", "{h} looked at {f} and felt bad.")
    else:
        w.focus("h")
        w.tell("{h} saw how sad {f} was.", "{h} <thought>. {f} was a good friend.")
    w.say(
        "h",
        "I am sorry, {f}. Let's take turns.",
        "You can have the {o.n} now. Then it is my turn again.",
        "Sorry, {f}. Come and play with me. The {o.n} is for both of us.",
    )
    w.give("o", "f")
    w.tell(
        "{h} let {f} have the {o.n}.",
        "{h} let {f} have the first turn with the {o.n}.",
    )
    w.heal("f", "[{h} shared the {o.n}|it was {f.his} turn with the {o.n}|{h} had said sorry]")
    w.tell(
        "{f} took the {o.n} and {o.play}.",
        "first {f} {o.play}, and then it was {h.s} turn.",
        "they took turns, and both of them laughed.",
    )
    w.paragraph()
    if w.chance(0.4):
        w.give("o", "h")
        w.tell(
            "when it was time to go, {f} gave the {o.n} back and said thank you.",
            "in the evening, {f} brought the {o.n} back to {h}.",
        )
    else:
        w.tell(
            "in the evening, {f} still had the {o.n}, and {h} did not mind.",
            '"Keep the {o.n} until tomorrow," said {h}, and {f} took it home.',
        )
    w.close(
        "from that day on, {h} and {f} always shared.",
        "sharing the {o.n} had been much more fun.",
        "{h} was glad to have a friend like {f}.",
        moral=(
            "sharing makes everyone happy",
            "a friend is worth more than a {o.n}",
            "it is more fun to share",
            "toys are for playing together",
        ),
    )


def trading(w: World) -> None:
    """The hero wants what a friend has, asks, is refused, and offers the right thing."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.place()
    w.open(friend=True)
    toy = w.chance(0.6)
    w.belonging("p", TOYS if toy else TREASURES, sizes="sm")
    w.give("p", "f")
    if w.chance(0.5):
        w.belonging("o", TOYS, sizes="sm")
        edible = False
    else:
        w.food("o")
        edible = True
    w.give("o", "h")
    w.paragraph()
    w.one_day("{h} saw {f} {at}", "{h} met {f} {at}")
    w.tell(
        "{f} had a {p}. {f.he} {p.play}.",
        "{f} was holding a {p}.",
        "in {f.his} {f.hand}s, {f} held a {p}.",
    )
    w.tell(
        "{h} wanted the {p.n} very much.",
        "{h} had never seen such a <nice> {p.n}. {h.he} wanted it.",
        "how {h} wished for a {p.n} like that!",
    )
    w.note("wanted", "h", "p")
    w.say(
        "h",
        "Can I have your {p.n}, please?",
        "Will you give me your {p.n}?",
        "May I please have the {p.n}?",
        how="asked",
    )
    w.say(
        "f",
        "No, I like it too much.",
        "But then I will have nothing to play with.",
        "What will you give me for it?",
        "I can't just give it away.",
        how="answered",
    )
    w.hurt(
        "h",
        "sad",
        "[{f} did not want to give {h} the {p.n}|{h} could not have the {p.n}|"
        "{f} wanted to keep the {p.n}]",
    )
    w.paragraph()
    w.focus("h")
    w.tell("{h} <thought>. What did {f} like?", "then {h} had a <idea>.", "{h} <thought>.")
    if edible:
        w.tell(
            "{h} had a {o} in {h.his} bag, and {f} had not eaten yet."
            if not w.animals
            else "{h} had a {o} at home, and {f} looked hungry.",
            "{h} knew that {f} was hungry. In {h.his} basket, {h} had a {o}.",
        )
        w.say("h", "Look, I have a {o}. Do you want it?", "Are you hungry? You can have my {o}.")
        w.tell("{f.s} tummy [growled|rumbled].", "{f} looked at the {o.n} and licked {f.his} lips.")
    else:
        w.tell(
            "{h} ran home and came back with {h.his} {o}.",
            "at home, {h} had a {o}. {h.he} went to get it.",
        )
        w.say(
            "h",
            "Shall we trade? My {o.n} for your {p.n}.",
            "You can have my {o} if I can have your {p.n}.",
        )
        w.tell("{f} looked at the {o}. {f.he} liked it.", "{f.s} eyes grew big.")
    w.say("f", "Yes, that is fair!", "All right. Let's trade!", "Deal!", how="laughed")
    w.note("traded", "h", "o", "p", "f")
    w.give("p", "h")
    if edible:
        w.take("o")
    else:
        w.give("o", "f")
    w.tell(
        "so {h} gave {f} the {o.n}, and {f} gave {h} the {p.n}.",
        "{f} took the {o.n}, and {h} took the {p.n}.",
    )
    w.heal("h", "[the {p} was {h.hers} now|{h} had the {p.n} at last]")
    if edible:
        w.tell(
            "{f} ate the {o.n} and was not hungry anymore.", "the {o.n} was gone in three bites."
        )
    else:
        w.tell("{f} {o.play}.", "{f} was happy with the {o.n} too.")
    w.paragraph()
    w.close(
        *(("{h} took the {p.n} and {p.play}, and {f} laughed.",) if toy else ()),
        "both friends were happy, and they <played>.",
        "{h} carried the {p.n} home, and {h.he} sang all the way.",
        moral=(
            "a fair trade makes two people happy" if not w.animals else "a fair trade is good",
            "you should think of what others like",
            "it is better to trade than to take",
        ),
    )
