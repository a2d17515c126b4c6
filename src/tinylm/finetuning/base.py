"""What a fine-tuning method is."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import nn


class Method(Protocol):
    """One way to adapt a frozen model: an entry of the registry METHODS.

    Whatever it adds stands in the ``Parts`` of a ``sites.Wrapper``, whose parameters are what is
    trained, listed and saved; what is fixed is a buffer. A method that PEFT has may also supply the
    three functions of ``lora_files.LoraFiles``, by which ``storage`` keeps it in PEFT's layout.
    """

    Settings: ClassVar[type]
    """The frozen dataclass of its settings."""
    learning_rate: ClassVar[float]
    """Where none is given: the fewer the parameters, the higher."""
    label: ClassVar[str]
    """Its name in a table or a figure."""
    noun: ClassVar[str]
    """Its name in a sentence, such as ``prefix tuning``."""
    explanation: ClassVar[str]
    """A sentence of the report, as inline markup: what it trains, with the source. Braces are names
    of its settings, ``{rank}``."""
    slow_because: ClassVar[str] = ""
    """A sentence of the report for where it is slower than training everything; empty: none."""
    changes_of_lora: ClassVar[str] = ""
    """What tells it from LoRA, a noun of the report, where it is a kind of LoRA."""
    peft_type: ClassVar[str] = ""
    """PEFT's name of the method whose folders are read as this one; empty: none are."""

    @staticmethod
    def num_trained(model: nn.Module, settings: Any) -> int:
        """Return how many numbers ``attach`` would train, from sizes alone.

        Args:
            model: left alone.
            settings: of the type ``Settings``.

        Raises:
            AdapterError: for targets that match nothing.
        """
        ...

    @staticmethod
    def attach(model: nn.Module, name: str, settings: Any) -> tuple[nn.Module, list[str]]:
        """Add parts called ``name`` to a model, active from now on.

        Everything is looked up and checked before anything is changed. New parameters are drawn
        from torch's global random state. Freezing is the caller's (``adapters.attach``).

        Args:
            model: changed in place, unless the method has to wrap it whole.
            name: of the adapter; no other one of the model has it.
            settings: of the type ``Settings``.

        Returns:
            The model to use from now on, and the names of parameters of the base that this method
            trains as well (biases, norms), as in ``sites.plain_parameters``, usually none.

        Raises:
            AdapterError: for targets that match nothing and sizes that cannot be.
        """
        ...
