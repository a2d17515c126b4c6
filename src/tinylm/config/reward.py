"""The settings of a reward model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.effects import Is, IsNot, UsedWith
from tinylm.value_types import FROZEN, Float, NonNegativeFloat, PositiveInt

Share = Annotated[Float, Field(ge=0, le=1)]
Between = Annotated[Float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=FROZEN)
class RewardConfig:
    """What a reward model is trained by: `tinylm reward`."""

    used_with: ClassVar[UsedWith] = {
        "ties": (Is("loss", "bradley-terry"),),
        "margin": (Is("loss", "bradley-terry"),),
        "tie_share": (IsNot("ties", "left-out"),),
    }

    loss: Literal["bradley-terry", "plackett-luce"] = "bradley-terry"
    """Over all pairs of a ranking, or over the choices of the best of what is left."""
    ties: Literal["left-out", "rao-kupper", "davidson"] = "left-out"
    """Tied pairs teach nothing, or are likely as in the model of Rao and Kupper or of Davidson."""
    tie_share: Between = 0.5
    """Probability of a tie of two responses that are as good as each other."""
    margin: NonNegativeFloat = 0.0
    """What the rewards of neighbouring ranks shall differ by, at least."""
    centre: NonNegativeFloat = 0.0
    """Weight of the squared sum of a pair's rewards, which keeps their mean near 0."""
    body: Literal["trained", "frozen"] = "trained"
    """The decoder is trained, whole or by its adapter, or the head alone is."""
    held_out: Between = 0.1
    """Share of the prompts held out where there is no validation file."""
    prompt_tokens: PositiveInt = 8
    """Of own samples: first tokens of a story that are given as prompt."""
    max_new_tokens: PositiveInt | None = None
    """Of own samples: longest response; empty: what the context holds after the prompt."""
    ranked_prompts: PositiveInt = 400
    """Of own samples: prompts whose responses are ranked."""
    responses: Annotated[int, Field(ge=2, le=64)] = 4
    """Of own samples: responses to each of them."""
    wrong: Share = 0.0
    """Of own samples: share of the rankings that are turned round."""
