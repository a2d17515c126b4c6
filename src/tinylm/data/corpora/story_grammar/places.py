"""Where stories happen: what one sees there, and where a lost thing can lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Place:
    """A place; ``at`` is how one is there, ``worlds`` has p for people and a for animals."""

    name: str
    at: str
    worlds: str
    spots: tuple[str, ...]
    details: tuple[str, ...]
    outdoors: bool


def _places(table: str) -> tuple[Place, ...]:
    places = []
    for block in table.strip().split("\n\n"):
        head, spots, *details = (line.strip() for line in block.strip().splitlines())
        name, preposition, worlds, outdoors = head.split("|")
        places.append(
            Place(
                name,
                f"{preposition} {name}",
                worlds,
                tuple(spot.strip() for spot in spots.split(",")),
                tuple(details),
                outdoors == "out",
            )
        )
    return tuple(places)


PLACES: Final = _places("""
the park|in|p|out
under a bench, behind the slide, next to the fountain, under the swings, near the gate
Children were laughing on the swings.
An old man fed bread to the pigeons.
The grass was green and soft.

the beach|at|p|out
behind a rock, under a beach chair, in a hole in the sand, next to a sand castle, under some seaweed
The waves rolled in and out.
Seagulls cried above the water.
The sand was warm under everyone's feet.

the garden|in|pa|out
under a rose bush, behind the flower pots, next to the fence, between the cabbages, under the ladder
Bees hummed around the flowers.
A snail crept slowly over a leaf.
The tomatoes were almost ripe.

the playground|at|p|out
under the slide, in the sandbox, behind the seesaw, next to the climbing frame, under a bench
Some children were digging in the sandbox.
The seesaw went up and down.
Someone had drawn a sun on the ground with chalk.

the zoo|at|p|out
near the monkey house, under a bench, next to the elephant fence, behind the ice cream stand
The monkeys swung from branch to branch.
An elephant splashed water with its trunk.
The penguins stood in a funny row.

the farm|on|pa|out
behind the barn, in the hay, under the tractor, next to the pig pen, near the well
The cows chewed their grass.
Hens and chicks ran across the yard.
A rooster sat on the fence.

the library|in|p|in
under a table, between two shelves, behind a tall chair, next to the window, behind the front desk
It was quiet, and it smelled of old paper.
A tall shelf held a thousand stories.
The clock on the wall ticked softly.

the market|at|p|out
under a fruit stand, behind a box of oranges, next to the flower stall, under an empty cart
The stalls were full of fish, cheese and fruit.
People carried heavy bags.
It smelled of fresh bread.

school|at|p|in
under a desk, behind the door, in the corner, next to the shelf, behind the piano
Colorful drawings hung on the wall.
The teacher wrote numbers on the board.
The hall was full of coats and bags.

the living room|in|p|in
under the sofa, behind the curtain, between two cushions, under the rug, behind the big plant
The fire made the room warm.
A fat cat slept on the armchair.
Toys lay all over the carpet.

the kitchen|in|pa|in
under the table, behind the stove, in a drawer, on a high shelf, inside a big pot
Something good was cooking in a pot.
The kettle began to sing.
Clean plates stood in a row.

the bedroom|in|pa|in
under the bed, behind the pillow, in the closet, under a pile of clothes, inside an old shoe
The lamp made a warm yellow light.
Paper stars hung from the ceiling.
A row of stuffed toys sat on the shelf.

the yard|in|pa|out
under the porch, behind the shed, next to the big tree, in the tall grass, under a heap of leaves
Clean shirts were drying on the line.
A bird sang on the roof.
The swing creaked in the wind.

the forest|in|pa|out
under a fern, behind a fallen log, between the roots of an oak, in a hollow tree, under a bush
Tall trees stood all around.
A woodpecker knocked on a trunk.
The ground was soft with moss.

the meadow|in|pa|out
in the tall grass, under some daisies, behind a big stone, next to a molehill, between two bushes
Butterflies danced over the flowers.
The grass was as high as a knee.
Grasshoppers jumped here and there.

the river|by|pa|out
between the reeds, under a flat rock, behind a willow, next to the bridge, in the mud
The water sparkled in the light.
Little fish swam around the stones.
A dragonfly flew over the water.

the pond|by|pa|out
between the reeds, under a wet leaf, behind an old stump, next to the lily pads, under a bush
Ducks paddled across the water.
A frog sat on a leaf and croaked.
The water was as smooth as glass.

the hill|on|pa|out
behind a big rock, in the tall grass, under a lonely tree, next to the path, in a rabbit hole
From there you could see the whole valley.
The wind was fresh and strong.
A few sheep stood in the sun.

the lake|by|pa|out
under an old boat, behind a rock, between the reeds, next to the dock, under a pine tree
Two white swans glided over the water.
A small boat rocked gently.
The mountains looked blue far away.

the orchard|in|pa|out
under an apple tree, behind a basket, in a pile of leaves, next to the stone wall, under a ladder
The branches were heavy with fruit.
Wasps buzzed around the fallen pears.
It smelled of ripe apples.

the village square|in|pa|out
next to the well, behind a barrel, under a cart, near the statue, under a bench
A man was playing the violin.
Flags hung between the houses.
The church bell rang slowly.

the camp|at|pa|out
behind a tent, under a blanket, next to the campfire, inside a boot, under a log
Smoke rose from the campfire.
An owl called from a tree.
The tents were small and green.
""")

WEATHER: Final[dict[str, tuple[str, ...]]] = {
    "sunny": (
        "The sun was shining.",
        "The sky was clear and blue.",
        "It was warm and bright.",
        "There was not a cloud in the sky.",
    ),
    "windy": (
        "The wind was blowing.",
        "A fresh wind shook the leaves.",
        "The clouds raced across the sky.",
    ),
    "cloudy": (
        "Gray clouds covered the sky.",
        "The sky was gray, but it did not rain.",
        "The air was cool.",
    ),
    "cold": (
        "The air was cold and clear.",
        "It was so cold that you could see your breath.",
        "Frost sparkled on the ground.",
    ),
    "spring": (
        "It was spring, and new leaves grew on the trees.",
        "The first flowers of spring were out.",
        "Birds were building their nests.",
    ),
    "autumn": (
        "Red and yellow leaves lay on the ground.",
        "It was autumn, and the leaves were falling.",
    ),
}
