"""``tinylm plan advantage``."""

from __future__ import annotations

from typing import Annotated

import typer

from tinylm.cli.output import say, say_json

_WIDTH = 12


def advantage(
    rewards: Annotated[str, typer.Option(metavar="R,R,…", help="Of every step.")],
    values: Annotated[
        str,
        typer.Option(metavar="V,V,…", help="Of the state before every step, and after the last."),
    ],
    gamma: Annotated[float, typer.Option(help="What a reward is worth one step later.")] = 1.0,
    lambda_: Annotated[
        float, typer.Option("--lambda", help="Of TD(lambda) and GAE: 0 is one-step TD.")
    ] = 0.95,
    truncated: Annotated[
        bool,
        typer.Option(
            "--truncated", help="It was cut off: the last value stands for what would have come."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what every step of a trajectory was worth, by every estimator side by side."""
    from tinylm.planning.advantages import Trajectory, every_estimator

    trajectory = Trajectory(
        _numbers("--rewards", rewards), _numbers("--values", values), gamma, truncated
    )
    result = every_estimator(trajectory, lambda_)
    if as_json:
        say_json(
            {
                "rewards": trajectory.rewards,
                "values": trajectory.values,
                "gamma": gamma,
                "lambda": lambda_,
                "truncated": truncated,
                **result,
            }
        )
        return
    for kind, columns in result.items():
        say(f"{kind}")
        say("".join(f"{name:>{_WIDTH}}" for name in ("step", "reward", "value", *columns)))
        for t, reward in enumerate(trajectory.rewards):
            numbers = [reward, trajectory.values[t], *(column[t] for column in columns.values())]
            say(f"{t:>{_WIDTH}}" + "".join(f"{number:>{_WIDTH}.7g}" for number in numbers))


def _numbers(option: str, text: str) -> tuple[float, ...]:
    """Return the numbers of a list with commas.

    Raises:
        ConfigError: if one is none.
    """
    from tinylm.errors import ConfigError, shown

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{option} {shown(text)}: give numbers with commas between them, such as 3,-1,2"
        ) from error
