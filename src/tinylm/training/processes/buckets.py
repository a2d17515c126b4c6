"""Gradients added up over processes, in flat buckets that are sent during the backward pass.

A backward pass makes gradients from the last layer to the first. Parameters are put into buckets in
that order; as soon as all of a bucket are there it is copied into one flat tensor and sent (an
all-reduce), while the pass goes on with the layers before (Li et al. 2020, "PyTorch Distributed",
section 3.2). Buckets leave in their order on every process, since collectives are matched by it.

A process may have no rows of a batch, or a parameter no gradient: zeros are sent for it. With each
bucket goes, for each of its parameters, whether there was a gradient; one that no process has stays
None, as it does in one process, so that an optimizer passes it over there as here.

What is sent: the numbers of all gradients once, and one more for each parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tinylm.errors import TrainingError

_BUCKET_BYTES = 4 << 20
"""Small enough that the first leaves early, large enough that a message's start costs little."""


class _Bucket:
    """Some parameters and their gradients side by side."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.missing = len(parameters)
        self.work: Any = None
        numbers = sum(parameter.numel() for parameter in parameters)
        first = parameters[0]
        self.flat = torch.empty(numbers + len(parameters), dtype=first.dtype, device=first.device)
        *parts, self.there = self.flat.split_with_sizes(
            [*(parameter.numel() for parameter in parameters), len(parameters)]
        )
        self.parts: list[Tensor] = parts

    def send(self) -> None:
        """Begin to add it up over all processes."""
        for number, (parameter, part) in enumerate(zip(self.parameters, self.parts, strict=True)):
            if parameter.grad is None:
                part.zero_()
            else:
                part.view_as(parameter).copy_(parameter.grad)
            self.there[number] = float(parameter.grad is not None)
        self.work = dist.all_reduce(self.flat, async_op=True)

    def receive(self) -> None:
        """Wait, and put what came into ``.grad``."""
        self.work.wait()
        self.work = None
        for parameter, part, there in zip(
            self.parameters, self.parts, self.there.tolist(), strict=True
        ):
            if not there:
                continue
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(part.view_as(parameter))


class Buckets:
    """The gradients of parameters, added up over all processes of the default group."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        telling: Callable[[], AbstractContextManager[None]],
        bucket_bytes: int = _BUCKET_BYTES,
    ) -> None:
        """Put parameters into buckets.

        Args:
            parameters: in the order of the forward pass; those without gradient are left out.
            telling: around every collective, turns its failure into an error of ours.
            bucket_bytes: of a bucket, about; a larger parameter has its own.
        """
        self._telling = telling
        self._buckets: list[_Bucket] = []
        self._passes = 0
        self._sent = 0
        self._seen: dict[nn.Parameter, int] = {}
        self._bucket_of: dict[nn.Parameter, _Bucket] = {}
        own: list[nn.Parameter] = []
        size = 0
        for parameter in reversed([each for each in parameters if each.requires_grad]):
            bytes_ = parameter.numel() * parameter.element_size()
            alike = not own or (own[0].dtype, own[0].device) == (parameter.dtype, parameter.device)
            if own and (size + bytes_ > bucket_bytes or not alike):
                self._buckets.append(_Bucket(own))
                own, size = [], 0
            own.append(parameter)
            size += bytes_
        if own:
            self._buckets.append(_Bucket(own))
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                self._bucket_of[parameter] = bucket
                parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]

    def begin(self, passes: int) -> None:
        """Expect so many backward passes of this process, of which the last completes gradients."""
        self._passes, self._sent, self._seen = passes, 0, {}
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)

    def _arrived(self, parameter: Tensor) -> None:
        """Count a gradient; send what is complete."""
        assert isinstance(parameter, nn.Parameter)
        count = self._seen[parameter] = self._seen.get(parameter, 0) + 1
        if count > self._passes > 0:
            raise TrainingError(
                f"a parameter of shape {tuple(parameter.shape)} got {count} gradients in "
                f"{self._passes} backward passes: its sum was sent before it was complete"
            )
        if count == self._passes:
            self._bucket_of[parameter].missing -= 1
            self._send_complete()

    def _send_complete(self) -> None:
        with self._telling():
            while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
                self._buckets[self._sent].send()
                self._sent += 1

    def finish(self) -> None:
        """Send what is left, and wait until every ``.grad`` is the sum over all processes.

        Raises:
            LostProcessError: if another process has gone.
        """
        with self._telling():
            for bucket in self._buckets[self._sent :]:
                bucket.send()
            self._sent = len(self._buckets)
            for bucket in self._buckets:
                bucket.receive()
        self._passes = 0
