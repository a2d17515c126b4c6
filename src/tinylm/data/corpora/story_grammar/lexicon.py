"""Who and what there is in the story world: names, kinds of animal, belongings, food and plants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _entries(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split(","))


GIRLS: Final = _words("""
Lily Anna Mia Emma Sara Lucy Ella Zoe Nina Ruby Molly Amy Kate Grace Jane Mary Lola Clara
Eva Hana Ida Julia Lena Maya Nora Penny Tina Wendy Alice Bella Cora Dora Ivy Leah Maria
Polly Sophie Tara Uma Yara Sally Elsa Rita Fiona Holly
""")
BOYS: Final = _words("""
Tom Ben Max Sam Tim Jack Leo Finn Noah Adam Dan Eli Fred Hugo Ian Jake Kevin Luke Nick
Oscar Paul Ravi Simon Theo Victor Zack Alex Ali Billy Carl David Emil Felix George Harry
Ivan John Kai Liam Marco Oliver Peter Robin Toby Walter
""")
ANIMAL_GIRLS: Final = _words("""
Hazel Coco Poppy Tilly Willow Clover Maple Momo Kiki Lulu Pepper Ginger Fluffy Luna Minnie
Bonnie Fern Dolly Nala Zuzu
""")
ANIMAL_BOYS: Final = _words("""
Pip Bobo Rusty Milo Bruno Otto Ozzy Dusty Basil Bramble Patch Toto Fuzzy Benji Scout Bingo
Chip Rocky Teddy Barney
""")
ANIMALS: Final = _words("""
rabbit fox bear mouse squirrel hedgehog badger raccoon beaver mole otter kitten puppy
panda koala hamster chipmunk lion wolf
""")
"""Kinds that can be heroes: all walk, have paws and talk."""

TRAITS: Final = _words("""
kind gentle cheerful clever curious brave shy quiet funny polite friendly playful careful
busy merry honest smart lively
""")

COLORS: Final = _words("""
red blue green yellow orange purple pink white brown golden
""")

PEOPLE_KIN: Final = (
    ("mom", "Mom", "f"),
    ("dad", "Dad", "m"),
    ("grandma", "Grandma", "f"),
    ("grandpa", "Grandpa", "m"),
    ("mom", "Mom", "f"),
    ("dad", "Dad", "m"),
    ("aunt", "Aunt May", "f"),
    ("uncle", "Uncle Bob", "m"),
)
ANIMAL_KIN: Final = (
    ("mother", "Mama", "f"),
    ("father", "Papa", "m"),
    ("grandmother", "Granny", "f"),
    ("grandfather", "Grandpa", "m"),
)
GROWN_UPS: Final = tuple(
    (f"the {name.replace('_', ' ')}", gender)
    for name, gender in (
        entry.split(":")
        for entry in _words("""
baker:m baker:f farmer:m farmer:f gardener:m gardener:f fisherman:m painter:f teacher:f
nurse:f doctor:m librarian:f carpenter:m shopkeeper:m shopkeeper:f policeman:m postman:m
cook:m tailor:f neighbor:f neighbor:m old_sailor:m old_lady:f old_man:m fireman:m
shepherd:m
""")
    )
)
"""``(how they are called, gender)``."""


@dataclass(frozen=True)
class Belonging:
    """Something one can have, want, lend and lose."""

    noun: str
    adjectives: tuple[str, ...]
    play: str
    """What its owner did with it, simple past, ``it`` for the belonging."""
    size: str
    """``s`` fits a hand, ``m`` two arms, ``l`` is too big to carry."""


def _belongings(table: str) -> tuple[Belonging, ...]:
    belongings = []
    for line in table.strip().splitlines():
        noun, size, adjectives, play = (part.strip() for part in line.split("|"))
        words = tuple(adjectives.replace("+", " ".join(COLORS)).split())
        belongings.append(Belonging(noun, words, play, size))
    return tuple(belongings)


TOYS: Final = _belongings("""
ball|s|+ round bouncy striped rubber|bounced it high and caught it again
kite|m|+ bright big striped|made its long tail dance
doll|s|pretty little old new soft|brushed its hair and sang to it
teddy bear|s|brown soft fluffy old fuzzy|hugged it and told it secrets
toy car|s|+ shiny fast little|pushed it along the ground
toy train|s|+ wooden long shiny|made it go round and round
toy boat|s|+ wooden little|let it sail over pretend waves
toy plane|s|+ little silver|held it up and made it zoom
toy truck|m|+ big strong|made it honk and roll
toy robot|s|silver shiny little funny|made it walk and beep
toy dinosaur|s|green big scary plastic|made it roar and stomp
toy horse|s|brown white wooden little|made it gallop and jump
toy rocket|s|silver red shiny|counted down from ten and made it fly high
puppet|s|funny soft little|put on a show with it
drum|m|+ loud shiny little|beat it with two sticks
trumpet|m|golden shiny loud|blew it until everyone laughed
whistle|s|silver shiny loud tiny|blew it and marched up and down
flute|s|wooden silver thin|played a sweet song on it
yo-yo|s|+ round shiny|made it go up and down
puzzle|m|big new hard|put all the pieces together
picture book|m|big old new thick|turned the pages and looked at the pictures
marble|s|+ shiny round tiny|rolled it and ran after it
spinning top|s|+ wooden shiny|made it spin like a dancer
balloon|m|+ big round|ran around with it on a string
jump rope|s|+ long new|jumped over it a hundred times
bucket|m|+ plastic little|put it on like a hat
scooter|l|+ shiny fast new|rode it up and down the path
bike|l|+ shiny fast new|rode it around and around
wagon|l|red blue wooden big|pulled it around in a circle
music box|s|golden old tiny pretty|opened it and listened to its song
bell|s|golden silver little shiny|rang it to make everyone dance
lantern|m|old golden little bright|let it glow like a little star
magnifying glass|s|round big shiny|looked at ants and leaves with it
mask|s|funny scary paper colorful|put it on and pretended to be a tiger
crown|s|golden paper shiny|put it on and played king and queen
wand|s|magic golden shiny wooden|waved it and pretended to do magic
cape|m|red blue long silky|wore it and pretended to fly
telescope|m|long old silver|looked at the far clouds with it
guitar|m|little brown wooden|played funny tunes on it
snow globe|s|pretty round little|shook it to make it snow
pinwheel|s|+ colorful paper|blew on it to make it spin
frisbee|s|+ round plastic|threw it far
paint box|s|big new wooden|made bright pictures with it
tambourine|s|round shiny little|shook it and danced
toy castle|m|big gray wooden|filled it with tiny knights
toy dragon|s|green red scary plastic|made it breathe pretend fire
""")

TREASURES: Final = _belongings("""
hat|s|+ straw silly warm|wore it every day
scarf|s|+ striped warm woolly soft|wore it around the neck
cap|s|+ new soft|wore it on sunny days
backpack|m|+ new big|carried books in it
umbrella|m|+ big spotted|opened it when it rained
blanket|m|+ soft warm cozy|slept with it every night
shell|s|pink white smooth pretty|held it to one ear to hear the sea
feather|s|blue white long soft|tickled everyone with it
stone|s|smooth round shiny gray|kept it as a lucky charm
key|s|golden silver tiny old|kept it on a string
coin|s|golden silver shiny old|kept it in a secret pocket
button|s|+ shiny big|kept it in a little box
ribbon|s|+ silky long|wore it with pride
basket|m|brown little round|carried flowers in it
necklace|s|golden silver pretty|wore it on special days
mitten|s|+ warm woolly|wore it in the snow
ring|s|golden silver shiny|wore it like a queen
pencil|s|+ long new|drew cats and dogs with it
watch|s|silver golden old shiny|listened to it tick
map|s|old secret crumpled|dreamed of far islands
notebook|s|+ new thick|wrote secret words in it
photo|s|old little precious|looked at it every night
bracelet|s|golden silver pretty|wore it every day
jar|s|big glass empty|kept beetles in it
""")

FOODS: Final = _entries("""
apple:juicy red sweet, cookie:big crunchy sweet, sandwich:big cheese tasty, muffin:warm
sweet blueberry, banana:ripe yellow sweet, pear:juicy green ripe, cupcake:pink sweet
pretty, bun:warm soft sweet, pancake:warm round, peach:juicy soft ripe, plum:purple juicy
sweet, carrot:crunchy orange fresh, waffle:warm crispy, orange:juicy round sweet,
pretzel:salty crunchy, doughnut:round sweet, pie:warm little cherry, cracker:crunchy
salty, candy bar:sweet big, melon:sweet juicy round, sausage:warm tasty, mango:ripe sweet,
lollipop:red sweet big
""")
"""``noun:adjectives``: things one child eats or gives away."""


@dataclass(frozen=True)
class Dish:
    """Something that is cooked at home from things that can run out."""

    name: str
    plural: bool
    needs: tuple[str, ...]
    step: str
    smell: str


def _dishes(table: str) -> tuple[Dish, ...]:
    rows = [[part.strip() for part in line.split("|")] for line in table.strip().splitlines()]
    return tuple(Dish(a, b == "p", tuple(c.split(",")), d, e) for a, b, c, d, e in rows)


DISHES: Final = _dishes("""
pancakes|p|flour,milk,eggs,butter|poured the batter into the hot pan|butter and honey
vegetable soup|s|carrots,potatoes,onions,salt|stirred the big pot|warm vegetables
apple pie|s|apples,flour,sugar,butter|rolled the dough flat|apples and cinnamon
cookies|p|flour,sugar,butter,chocolate|cut the dough into stars and hearts|warm chocolate
bread|s|flour,salt,yeast|pushed and pulled the dough|fresh bread
chocolate cake|s|flour,eggs,cocoa,sugar|mixed everything in a big bowl|sweet chocolate
pizza|s|cheese,tomatoes,flour,mushrooms|spread the sauce over the dough|melted cheese
fruit salad|s|bananas,grapes,oranges,strawberries|cut the soft fruit into pieces|fresh fruit
berry jam|s|berries,sugar,lemons|stirred the bubbling pot|sweet berries
blueberry muffins|p|blueberries,flour,eggs,milk|filled the little paper cups|warm blueberries
spaghetti|s|noodles,tomatoes,cheese,garlic|stirred the bubbling sauce|tomatoes and garlic
corn bread|s|corn,milk,eggs,butter|poured the yellow dough into a pan|warm corn
rice pudding|s|rice,milk,sugar,raisins|stirred the creamy pot|milk and vanilla
lemonade|s|lemons,sugar,ice,mint|squeezed and stirred|fresh lemons
""")


@dataclass(frozen=True)
class Plant:
    """What grows from a seed, and what one can do with the result."""

    name: str
    result: str
    use: str
    edible: bool


PLANTS: Final = tuple(
    Plant(name, result, use, kind == "e")
    for name, result, use, kind in (
        ("sunflower", "tall yellow flower", "put it by the window", "f"),
        ("tomato plant", "ripe red tomato", "ate it with a pinch of salt", "e"),
        ("pumpkin", "huge orange pumpkin", "made a pot of pumpkin soup", "e"),
        ("bean plant", "long green bean", "cooked it for dinner", "e"),
        ("strawberry plant", "sweet red strawberry", "ate it slowly, bite by bite", "e"),
        ("rose bush", "dark red rose", "put it in a vase", "f"),
        ("tulip", "bright pink tulip", "drew a picture of it", "f"),
        ("melon", "big round melon", "cut it into slices", "e"),
        ("carrot", "crunchy orange carrot", "washed it and ate it", "e"),
        ("pepper plant", "shiny green pepper", "cut it into rings", "e"),
        ("daisy", "white daisy with a yellow heart", "drew a picture of it", "f"),
        ("cucumber", "long green cucumber", "made a cool salad", "e"),
        ("lily", "lovely white lily", "drew a picture of it", "f"),
        ("corn plant", "golden ear of corn", "ate it with butter", "e"),
        ("violet", "tiny purple violet", "put it in a cup of water", "f"),
        ("radish", "round pink radish", "made a crunchy salad", "e"),
    )
)
