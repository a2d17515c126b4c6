"""Plots about those who need somebody: the hurt, the sick and the new."""

from __future__ import annotations

from tinylm.data.corpora.story_grammar.lexicon import TOYS
from tinylm.data.corpora.story_grammar.world import World

# (animal, hurt part, what it could not do, how it left, what it ate)
_HURT = (
    ("bird", "wing", "fly", "flew up into the sky", "seeds and crumbs"),
    ("sparrow", "wing", "fly", "flew over the trees", "tiny seeds"),
    ("pigeon", "foot", "walk", "flew to the roof", "corn and crumbs"),
    ("robin", "wing", "fly", "flew to the nearest branch", "worms and berries"),
    ("duckling", "foot", "swim", "swam away with the other ducks", "wet bread and peas"),
    ("lamb", "leg", "run", "ran back to the other sheep", "fresh grass"),
    ("turtle", "leg", "crawl", "crawled back to the water", "lettuce"),
    ("foal", "leg", "trot", "trotted back to its mother", "hay and apples"),
    ("fawn", "leg", "jump", "jumped back into the trees", "leaves and clover"),
    ("frog", "leg", "hop", "hopped into the water", "flies"),
    ("gosling", "foot", "paddle", "paddled back to its family", "grass and corn"),
    ("crow", "wing", "fly", "flew around in a circle and was gone", "nuts and bread"),
)


def hurt_animal(w: World) -> None:
    """A hurt animal is nursed, gets well, and goes back to where it belongs."""
    w.cast_child("h")
    w.cast_kin()
    w.place(
        (
            "the farm",
            "the meadow",
            "the pond",
            "the river",
            "the forest",
            "the orchard",
            "the lake",
            "the park",
        ),
        outdoors=True,
    )
    animal, part, verb, leaving, food = w.pick(_HURT)
    w.slots.update(an=animal, part=part, verb=verb, leaving=leaving, food=food)
    w.open()
    w.maybe(
        0.6,
        "{h} [loved|liked] all animals, big and small."
        if not w.animals
        else "{h} liked to help others.",
        "{h} had a soft heart.",
    )
    w.paragraph()
    w.one_day("{h} was walking {at}", "{h} was {at}", "{h} went out to play {at}")
    w.tell(
        "<suddenly> {h.he} heard a [weak|tiny|sad] [cry|sound].",
        "something moved in the grass.",
        "{h.he} saw something small on the ground.",
    )
    w.tell(
        "it was a little {an} with a hurt {part}. It could not {verb}.",
        "there lay a {an}. Its {part} was hurt, and it could not {verb}.",
    )
    w.note("hurt", "an", "part")
    w.hurt("h", "worried", "the {an} could not {verb}")
    w.say(
        "h",
        "You poor thing! I will help you.",
        "Don't be afraid, little {an}.",
        "Oh no! You must be in pain.",
        how="whispered",
    )
    w.tell(
        "{h} picked up the {an} [<carefully>|with both {h.hand}s] and [carried|took] it home.",
        "{h} wrapped the {an} in [a soft cloth|a blanket|some leaves] and <hurried> home.",
    )
    w.paragraph()
    w.say(
        "h", "Can we help it, {k.call}?", "{k.call}, look! It is hurt. What can we do?", how="asked"
    )
    w.say(
        "k",
        "Yes, but it needs rest and food.",
        "We will put a bandage on its {part}.",
        "Let me see. We must clean the {part} first.",
        how="answered",
    )
    w.tell(
        "they put a [white|clean|small] bandage around the {part}.",
        "{k} washed the {part}, and {h} held the {an} still.",
    )
    w.tell(
        "they made a bed of [straw|hay|wool|grass|cotton] in a [box|basket].",
        "{h} brought it some water in a [small bowl|cup|saucer].",
    )
    w.tell(
        "every [day|morning], {h} fed the {an} {food}.",
        "{h} gave it {food} and [talked|sang] to it.",
    )
    w.tell(
        "after [a week|two weeks|many days|ten days], the {part} was well again.",
        "day by day, the {an} got [stronger|better].",
    )
    w.heal("h", "[the {part} had healed|the {an} could {verb} again]")
    w.paragraph()
    if w.chance(0.5):
        w.hurt("h", "sad", "[it was time to say goodbye to the {an}|the {an} had to go home]")
        w.say("k", "It has a family too, and they miss it.", "It will be happy out there.")
        w.heal("h", "[the {an} would be happy|the {an} would see its family]")
    else:
        w.say("k", "Now it is time to let it go.", "It wants to go home, {h}.")
    w.tell(
        "they took the {an} back to {place}. It {leaving}.",
        "{h} set the {an} down {at}, and it {leaving}.",
    )
    w.note("freed", "an", "place")
    w.close(
        "now and then, the {an} came back to visit {h}.",
        "{h} waved until {h.he} could not see it anymore.",
        '"Goodbye, little friend!" called {h}.',
        "the next spring, {h} saw the {an} again, and it was not alone.",
        moral=(
            "even small ones need our help",
            "we should be kind to every animal",
            "to love means to let go sometimes",
        ),
    )


def sick_friend(w: World) -> None:
    """A friend is ill and lonely; the hero finds out what would help and brings it."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.cast_kin()
    w.place(outdoors=True)
    w.open(friend=True)
    w.tell("every [day|afternoon], the two met {at}.", "they always played {at}.")
    w.paragraph()
    w.one_day("{h} waited {at}, but {f} did not come", "{f} did not come to play", at=False)
    w.put("ill", "[a cold|a fever|a sore throat|a bad cough|a tummy ache|an earache|the flu]")
    w.tell(
        "{h} went to {f.s} house. {f} was in bed with {ill}.",
        "{f} had {ill} and had to stay in bed.",
    )
    w.note("ill", "f", "ill")
    w.hurt("f", "sad", "[{f.he} had to stay in bed|{f} could not play outside|{f} had {ill}]")
    w.say(
        "f",
        "It is so boring in bed.",
        "I miss our games.",
        "I can't come out for a week.",
        how="said",
    )
    w.say("h", "I will think of something.", "Wait here. I will be back!", "I have an idea!")
    w.paragraph()
    w.tell("{h} ran home and told {k.own} about it.", "at home, {h} asked {k.own} what to do.")
    gift = w.pick(("soup", "toy", "show", "window"))
    if gift == "soup":
        w.put("dish", "[chicken|carrot|tomato|pumpkin|noodle|onion] soup")
        w.tell("together they cooked a pot of {dish}.", "{k} helped to make {dish}.")
        w.tell("{h} carried the {dish} to {f}, and did not spill a drop.")
        w.put("relief", "the {dish} was hot and good")
        w.slots["brought"] = w.slots["dish"]
    elif gift == "toy":
        w.belonging("o", TOYS, sizes="s")
        w.tell(
            "{h} looked at {h.his} toys and took the best one, a {o}.",
            "{h} took {h.his} {o} from the shelf.",
        )
        w.say("h", "You can keep my {o.n} until you are well.", "My {o.n} will keep you company.")
        w.give("o", "f")
        w.put("relief", "{f} had the {o} to play with")
        w.slots["brought"] = w.slots["o"]
    elif gift == "show":
        w.put("props", "[socks|spoons|paper bags|old gloves]")
        w.tell(
            "{h} made puppets out of {props}.",
        )
        w.tell(
            "then {h} put on a show at the end of {f.s} bed. There was a [king|dragon|witch|"
            "pirate] and a silly [goose|donkey|frog|cow]."
        )
        w.put("relief", "the puppets made {f} laugh")
        w.slots["brought"] = "puppets"
    else:
        w.put("props", "[drawings|letters|paper hearts|funny pictures|flowers]")
        w.tell("every day, {h} came to {f.s} window and left some {props} there.")
        w.put("relief", "{h} came to the window every day")
        w.slots["brought"] = w.slots["props"]
    w.note("brought", "h", "brought", "f")
    w.heal("f", "{relief}")
    w.say(
        "f",
        "You are the best friend ever!",
        "Now I feel better already.",
        "Thank you, {h}.",
        how="laughed",
    )
    w.paragraph()
    w.tell(
        "after [five days|a week|some days], {f} was well again.",
        "<soon> {f} could get up and go outside.",
    )
    w.close(
        "the two ran to {place} and <played>.",
        '"When you are sick, I will come to you too," said {f}.',
        "they met {at} again, and it was as if nothing had happened.",
        moral=(
            "friends do not leave you alone when you are sick",
            "a visit can be the best medicine",
            "small gifts can make a big difference",
        ),
    )


_SHY = (
    "stood alone by the fence",
    "sat alone under a tree",
    "watched the others from far away",
    "hid behind a big bag",
    "looked down and did not speak",
    "drew lines in the sand alone",
)


def newcomer(w: World) -> None:
    """A shy newcomer knows nobody; the hero finds what they both like."""
    w.cast_child("h")
    w.cast_child("f", unlike="h")
    w.place(
        (
            "school",
            "the playground",
            "the park",
            "the beach",
            "the camp",
            "the meadow",
            "the pond",
            "the forest",
            "the village square",
        )
    )
    w.open()
    w.belonging("o", TOYS, sizes="sm")
    w.give("o", "h")
    w.tell(
        "{h} often went to {place} with {h.his} {o}.", "{h} liked to play {at} with {h.his} {o}."
    )
    w.paragraph()
    w.put("shy", w.pick(_SHY))
    w.one_day("a new {f.kind} came to {place}", "{h} saw a new {f.kind} {at}")
    w.tell("{f.he} {shy}.")
    w.put(
        "from",
        "[a big city|a small island|a far country|the other side of the hill|the "
        "mountains|a village by the sea]",
    )
    w.tell(
        "{f.his} name was {f}, and {f.he} came from {from}.",
        "it was {f}. {f.his} family had just come from {from}.",
    )
    w.note("came", "f", "from")
    w.hurt(
        "f",
        "lonely",
        "[{f} did not know anybody|{f} had no friends there|everybody was a stranger to {f.him}]",
    )
    w.say(
        "h",
        "Hello! I am {h}. What is your name?",
        "Hi! Do you want to play?",
        "You are new here, right? I am {h}.",
        how="asked",
    )
    w.tell(
        "{f} [turned red|looked at {f.his} feet] and said nothing."
        if not w.animals
        else "{f} looked at {f.his} feet and said nothing.",
        "{f} only shook {f.his} head.",
        "{f} opened {f.his} mouth, but no word came out.",
    )
    w.paragraph()
    w.focus("h")
    w.tell("{h} did not give up.", "{h} <thought>.", "{h} remembered how it felt to be new.")
    w.tell(
        "{h.he} sat down next to {f} with the {o}.", "{h.he} took the {o} and sat down near {f}."
    )
    w.tell("{h} took the {o.n} and {o.play}.", "{h} showed {f} the {o.n}.")
    w.tell(
        "<then> {f} looked up. A small smile came to {f.his} face.",
        "slowly, {f} came [closer|nearer].",
    )
    w.say(
        "f",
        "I like your {o.n}. May I hold it?",
        "I had a {o.n} like that in my old home. May I try it?",
        "May I try it?",
        how="whispered",
    )
    w.say("h", "Here, you can hold it!", "Let's play with it together!", "Of course! Here it is.")
    w.give("o", "f")
    w.tell(
        "{f} took the {o.n} and {o.play}. Both of them laughed.",
        "{f} took the {o.n}, and they began to laugh.",
    )
    w.heal("f", "[{h} was {f.his} friend now|{f} had found a friend]")
    w.paragraph()
    if w.chance(0.5):
        w.tell(
            "{h} told the others, and they all played together.",
            "then {h} took {f} to the others, and {f} was not so shy anymore.",
        )
    else:
        w.tell("{f} told {h} stories about {from}.", "{f} sang a song from {from}.")
    w.tell(
        "before {f} went home, {f.he} gave {h} the {o.n} back.",
        "at the end, {f} put the {o.n} back into {h.s} bag.",
    )
    w.give("o", "h")
    w.close(
        "from then on, {h} and {f} met every day {at}.",
        '"See you tomorrow!" said {f}, and that was the best word of the day.',
        "soon nobody remembered that {f} had ever been new.",
        moral=(
            "a friendly word can make a friend",
            "everybody is new somewhere once",
            "it takes time to make a friend",
            "being kind to somebody new is worth it",
        ),
    )
