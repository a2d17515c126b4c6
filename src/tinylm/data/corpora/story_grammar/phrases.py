"""Paraphrases that many plots share, written in the notation of ``templates``."""

from __future__ import annotations

from typing import Final

RULES: Final[dict[str, str]] = {
    "smiled": "smiled|grinned|beamed|gave a big smile",
    "very": "very|so|really",
    "soon": "soon|after a while|a little later|before long",
    "then": "then|after that|next",
    "suddenly": "suddenly|all at once|just then|all of a sudden",
    "looked": "looked|searched|peeked",
    "hurried": "hurried|ran|rushed|dashed",
    "walked": "walked|went|strolled|wandered",
    "nice": "nice|lovely|fine|beautiful|wonderful|pretty",
    "kind": "kind|gentle|friendly|good|sweet|helpful|caring",
    "little": "little|small|young",
    "carefully": "carefully|gently|slowly|softly",
    "quickly": "quickly|fast|at once|right away",
    "happy": "happy|glad|cheerful|full of joy|delighted|very pleased",
    "proud": "proud|very proud|so proud",
    "thought": "thought for a [moment|while]|thought and thought|stopped to think|"
    "scratched {x.his} head and thought",
    "played": "played [together|all afternoon|until the sun went down|until it got dark|"
    "and laughed|for hours|and sang]",
    "hug": "hug|big hug|warm hug|tight hug",
    "day": "day|morning|afternoon",
    "loved": "loved|liked|really liked",
    "idea": "idea|good idea|clever idea|great idea|plan",
    "best": "favorite|dearest",
}

TAGS: Final[dict[str, tuple[str, ...]]] = {
    "said": ("said",),
    "asked": ("asked",),
    "cried": ("cried", "shouted", "called", "yelled"),
    "whispered": ("whispered", "said softly", "said quietly", "murmured"),
    "answered": ("answered", "replied", "said"),
    "sobbed": ("sobbed", "cried", "wept", "said sadly"),
    "laughed": ("laughed", "giggled", "said happily", "said with a laugh"),
    "begged": ("begged", "pleaded", "asked"),
    "snapped": ("snapped", "shouted", "grumbled", "said angrily"),
}
"""Speech verbs by mood."""

SADNESS: Final = (
    "{x} was[ very| so|] sad because {because}.",
    "{x} felt sad, because {because}.",
    "{x} began to cry because {because}.",
    "{x} had tears in {x.his} eyes, because {because}.",
    "a big tear rolled down {x.s} cheek, because {because}.",
    "{x} sat down and sighed. {x.he} was sad because {because}.",
    "{why}, and that made {x} [very|so] [sad|unhappy].",
    "{why}, so {x.or_he} felt like crying.",
)
GLADNESS: Final = (
    "{x} was not sad [anymore|any longer], because {because}.",
    "{x} was [happy|glad] again, because {because}.",
    "{x} wiped [away {x.his} tears|{x.his} eyes] and <smiled>, because {because}.",
    "now {x} was <happy>, because {because}.",
    "{why}, and {x.or_he} [smiled again|felt much better|was happy again|was not sad anymore].",
    "{why}, so {x.or_he} [smiled|laughed] again.",
    "{x} jumped up and down with joy, because {because}.",
)
OTHER_BAD: Final[dict[str, tuple[str, ...]]] = {
    "sleepless": (
        "{x} could not sleep because {because}.",
        "{x} was wide awake, because {because}.",
        "{x} could not close {x.his} eyes, because {because}.",
        "{why}, and {x.or_he} could not sleep.",
    ),
    "afraid": (
        "{x} was[ very| so|] [afraid|scared] because {because}.",
        "{x} felt [afraid|frightened], because {because}.",
        "{x.s} heart beat fast, because {because}.",
        "{x} began to shake, because {because}.",
        "{why}, and {x.or_he} was [scared|frightened].",
    ),
    "angry": (
        "{x} was[ very| so|] [angry|cross|upset] because {because}.",
        "{x} felt angry, because {because}.",
        "{x} stamped {x.his} foot, because {because}.",
        "{why}, and {x.or_he} was [angry|upset|mad].",
    ),
    "lonely": (
        "{x} was[ very| so|] lonely because {because}.",
        "{x} felt [alone|lonely], because {because}.",
        "{why}, so {x.or_he} felt lonely.",
    ),
    "worried": (
        "{x} was[ very| so|] worried because {because}.",
        "{x} felt worried, because {because}.",
        "{x} bit {x.his} lip, because {because}.",
        "{why}, and {x.or_he} was [worried|nervous].",
    ),
    "sorry": (
        "{x} felt [very sorry|bad|guilty] because {because}.",
        "{x} hung {x.his} head, because {because}.",
        "{why}, and {x.or_he} felt bad about it.",
    ),
}
OTHER_GOOD: Final[dict[str, tuple[str, ...]]] = {
    "sleepless": (
        "now {x} felt sleepy, because {because}.",
        "{x} yawned, because {because}.",
        "{why}, and {x.or_he} felt sleepy at last.",
        "{why}, so {x.or_he} began to yawn.",
    ),
    "afraid": (
        "{x} was not [afraid|scared] anymore, because {because}.",
        "{x} felt [brave|safe] now, because {because}.",
        "{why}, and {x.or_he} was not [scared|afraid] anymore.",
        "all {x.s} fear was gone, because {because}.",
    ),
    "angry": (
        "{x} was not angry anymore, because {because}.",
        "{x} felt calm again, because {because}.",
        "{why}, and {x.or_he} forgot that {x.he} had been angry.",
    ),
    "lonely": (
        "{x} was not lonely anymore, because {because}.",
        "{x} did not feel alone now, because {because}.",
        "{why}, so {x.or_he} was not lonely anymore.",
    ),
    "worried": (
        "{x} was not worried anymore, because {because}.",
        "{x} could breathe again, because {because}.",
        "{why}, and {x.or_he} stopped worrying.",
    ),
    "sorry": (
        "{x} felt much better, because {because}.",
        "{x} felt light and happy again, because {because}.",
        "{why}, and {x.or_he} felt better at last.",
    ),
}
