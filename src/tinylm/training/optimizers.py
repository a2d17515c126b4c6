"""Adam, AdamW and SGD from their papers, and torch's fused forms beside them.

All keep their state under the names that torch uses, so that a run can change from one form to
the other. Equal to torch's to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.config import TrainingConfig
from tinylm.errors import TrainingError
from tinylm.registry import OPTIMIZERS
from tinylm.training.processes.parts import gathered, like, local_part, own_part

Parameters = Iterable[dict[str, Any]]
Make = Callable[..., torch.optim.Optimizer]

_PIECE = 2**17  # numbers; with gradient and two moments 2 MB of float32, over all cores


class Adam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1), with L2 weight decay added to the gradient."""

    decoupled = False

    def __init__(
        self,
        params: Parameters,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Raises:
            TrainingError: if a closure is given; none is used here.
        """
        if closure is not None:
            raise TrainingError("this optimizer takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                self._update(parameter, gradient, state, group)

    def _update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Move one parameter, in pieces that stay in a processor's cache over all operations."""
        (beta1, beta2), rate, decay = group["betas"], group["lr"], group["weight_decay"]
        t = int(state["step"])
        root = math.sqrt(1 - beta2**t)
        rate_of_step = rate * root / (1 - beta1**t)
        arrays = (parameter, gradient, state["exp_avg"], state["exp_avg_sq"])
        for weight, slope, mean, square in _pieces(arrays):
            if decay and self.decoupled:
                weight.mul_(1 - rate * decay)
            elif decay:
                slope = slope + decay * weight
            mean.lerp_(slope, 1 - beta1)
            square.mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
            # Bias corrections as at the end of section 2: in the numbers, not in the arrays.
            weight.addcdiv_(mean, square.sqrt().add_(group["eps"] * root), value=-rate_of_step)


def _pieces(arrays: Sequence[Tensor]) -> Iterable[tuple[Tensor, ...]]:
    """Cut tensors of one shape into short pieces; the pieces are views of them."""
    arrays = [own_part(array) for array in arrays]
    if arrays[0].device.type != "cpu" or not all(array.is_contiguous() for array in arrays):
        return [tuple(arrays)]
    return zip(*(array.view(-1).split(_PIECE) for array in arrays), strict=True)  # type: ignore[no-untyped-call]


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

    decoupled = True


class SGD(torch.optim.Optimizer):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013; undamped, as in torch)."""

    def __init__(
        self, params: Parameters, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Raises:
            TrainingError: if a closure is given; none is used here.
        """
        if closure is not None:
            raise TrainingError("this optimizer takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if group["weight_decay"]:
                    gradient = gradient + group["weight_decay"] * parameter
                if group["momentum"]:
                    state = self.state[parameter]
                    if "momentum_buffer" in state:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
                    else:
                        state["momentum_buffer"] = gradient.clone()
                    gradient = state["momentum_buffer"]
                parameter.sub_(gradient, alpha=group["lr"])


@dataclass(frozen=True)
class Rule:
    """An optimizer and what it says of itself: an entry of the registry OPTIMIZERS."""

    make: Make
    """From groups of parameters and its settings."""
    settings: Callable[[TrainingConfig], dict[str, Any]]
    """Those of ``make`` beside the learning rate, which is the groups' own, as is weight decay."""
    state: tuple[str, ...]
    """What it keeps of every parameter, in arrays of its size."""
    fused: str
    """Name of torch's fused form in the registry."""
    needs_momentum: bool = False
    """Whether it keeps nothing without momentum."""

    def moments(self, momentum: bool) -> int:
        """Return how many arrays it keeps of every parameter."""
        return len(self.state) if momentum or not self.needs_momentum else 0


def _of_adam(config: TrainingConfig) -> dict[str, Any]:
    return {"betas": (config.beta1, config.beta2), "eps": config.eps}


def _of_sgd(config: TrainingConfig) -> dict[str, Any]:
    return {"momentum": config.beta1}


_ADAM_STATE, _SGD_STATE = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)
ADAM = Rule(Adam, _of_adam, _ADAM_STATE, "torch-adam")
ADAMW = Rule(AdamW, _of_adam, _ADAM_STATE, "torch-adamw")
SGD_RULE = Rule(SGD, _of_sgd, _SGD_STATE, "torch-sgd", needs_momentum=True)
TORCH_ADAM = replace(ADAM, make=partial(torch.optim.Adam, fused=True))
TORCH_ADAMW = replace(ADAMW, make=partial(torch.optim.AdamW, fused=True))
TORCH_SGD = replace(SGD_RULE, make=partial(torch.optim.SGD, fused=True))


def build_optimizer(
    model: nn.Module, config: TrainingConfig, dividing: Callable[[Make], Make] | None = None
) -> torch.optim.Optimizer:
    """Return the optimizer of a run.

    ``dividing`` may divide its states among processes (``processes.sharding.zero_optimizer``).

    Matrices are decayed and vectors (biases, norms) are not; each group remembers its peak rate
    as ``peak_lr``, which schedules multiply. A module may give parameters of its own another rate:
    ``rate_factors``, name -> multiple of the run's (LoRA+). Those at the run's rate come first.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    factors = _rate_factors(model)
    groups: list[dict[str, Any]] = []
    for factor in sorted({1.0, *factors.values()}, key=lambda factor: (factor != 1.0, factor)):
        same = [p for p in trained if factors.get(id(p), 1.0) == factor]
        rate = config.learning_rate * factor
        matrices = [p for p in same if p.dim() >= 2]
        vectors = [p for p in same if p.dim() < 2]
        groups.append({"params": matrices, "weight_decay": config.weight_decay, "lr": rate})
        groups.append({"params": vectors, "weight_decay": 0.0, "lr": rate})
    groups = [group for group in groups if group["params"]]
    rule: Rule = OPTIMIZERS.load(config.optimizer)
    make = rule.make if dividing is None else dividing(rule.make)
    optimizer = make(groups, lr=config.learning_rate, **rule.settings(config))
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def _rate_factors(model: nn.Module) -> dict[int, float]:
    """Return id of a parameter -> multiple of the learning rate, of those that have one."""
    return {
        id(getattr(module, name)): float(factor)
        for module in model.modules()
        for name, factor in getattr(module, "rate_factors", {}).items()
    }


def same_state(first: str, second: str) -> bool:
    """Whether two optimizers, by name, keep the same state: a run can change between them."""
    same: bool = OPTIMIZERS.load(first).state == OPTIMIZERS.load(second).state
    return same


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's rate to ``factor`` times its peak; return the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    rate: float = optimizer.param_groups[0]["lr"]
    return rate


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest_norm: float) -> float:
    """Scale all gradients so that their joint L2 norm is at most ``largest_norm``.

    Args:
        parameters: those without a gradient are passed over.
        largest_norm: 0 measures and leaves the gradients alone.

    Returns:
        The norm before scaling (Pascanu, Mikolov and Bengio 2013, algorithm 1).
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    # Not ``torch.dot``, though it takes half of the time: its sum depends on where in memory a
    # gradient stands, and a resumed run would end with other bits.
    norms: list[Tensor] = [gathered(gradient.norm()) for gradient in gradients]
    norm = float(torch.stack(norms).norm())
    if largest_norm and norm > largest_norm:
        for gradient in gradients:
            own_part(gradient).mul_(largest_norm / norm)
    return norm


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as ``parameter name/state name`` -> tensor."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in local_part(optimizer).state.items()
        for key, value in state.items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Put back what ``optimizer_tensors`` returned.

    Raises:
        TrainingError: if a parameter is not of this model, or of another shape.
    """
    parameters = dict(model.named_parameters())
    own = local_part(optimizer)
    moved = {parameter for group in own.param_groups for parameter in group["params"]}
    for name, tensor in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        if parameter_name not in parameters:
            raise TrainingError(f"the optimizer state of {parameter_name} is not of this model")
        parameter = parameters[parameter_name]
        if tensor.dim() > 0 and tensor.shape != parameter.shape:
            raise TrainingError(
                f"the optimizer state {name} has shape {tuple(tensor.shape)}, its parameter "
                f"{tuple(parameter.shape)}"
            )
        if parameter not in moved and own is not optimizer:
            continue  # another process moves it
        # Counters stay where torch's optimizers keep them: on the CPU, unless fused on a GPU.
        on_device = tensor.dim() > 0 or bool(optimizer.defaults.get("fused"))
        place = parameter.device if on_device else torch.device("cpu")
        own.state[parameter][key] = like(tensor.to(place).clone(), parameter)
