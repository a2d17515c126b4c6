"""Adapters on disk: a folder with the trained parameters and what they belong to.

``adapter_model.safetensors`` holds the adapter's own parameters and nothing of the base. Where PEFT
has the method, it and ``adapter_config.json`` are PEFT's own layout, so that PEFT reads the folder,
and its folders are read here. ``tinylm.json`` adds the method, its settings, the fingerprint of the
base, the context that it is for and the SHA-256 of the tensors, with a checksum of its own. Each
file is written whole or not at all, tinylm.json last, so that files of two adapters never pass for
one. PEFT's field for the version of the base, ``revision``, holds method and fingerprint too, so
that what PEFT reads and writes again is still held to its base. Nothing is pickled.

A method that PEFT has supplies ``to_peft``, ``from_peft`` and ``settings_from_peft``, as
``lora_files.LoraFiles`` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar, overload

import safetensors.torch
import torch
from pydantic import Field, with_config
from torch import Tensor, nn

from tinylm.atomic import write_bytes
from tinylm.config import from_dict, to_dict
from tinylm.errors import AdapterError, shown
from tinylm.finetuning.adapters import (
    activate,
    active_adapters,
    adapter_of,
    attach,
    detach,
    fingerprint,
    trained_parameters,
)
from tinylm.finetuning.longlora import extended
from tinylm.finetuning.record import Attached
from tinylm.finetuning.sites import unwrapped
from tinylm.model.base import GenerativeModel
from tinylm.reading import (
    CHECKSUM,
    checked,
    key_shown,
    read_json,
    read_tensor_headers,
    refusal,
    signed,
    verified,
)
from tinylm.registry import METHODS

About = TypeVar("About")

FORMAT = "tinylm adapter 1"
TENSORS = "adapter_model.safetensors"
_PEFT = "adapter_config.json"
OURS = "tinylm.json"
_REVISION = "tinylm"


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter read from a folder."""

    method: str
    """Name in the registry METHODS."""
    settings: Any
    tensors: dict[str, Tensor]
    """Under the names of ``trained_parameters``."""
    name: str = "default"
    """What the adapter was called."""
    base: str | None = None
    """Fingerprint of its base; None where it was trained by PEFT."""
    context_length: int | None = None
    """Of the model that it was trained on; None where that is not known."""


def save_adapter(model: nn.Module, name: str, folder: str | Path) -> int:
    """Write an adapter to a folder.

    Args:
        model: with the adapter attached, active or not, merged or not.
        name: of the adapter.
        folder: made if it is not there; an adapter in it is replaced.

    Returns:
        Bytes of the file of tensors.

    Raises:
        AdapterError: if there is none of that name, or the files cannot be written.
    """
    folder = Path(folder)
    adapter = adapter_of(model, name)
    tensors = {
        key: parameter.detach().cpu().contiguous()
        for key, parameter in trained_parameters(model, name).items()
    }
    method = METHODS.load(adapter.method)
    fields: dict[str, Any] | None = None
    if hasattr(method, "to_peft"):
        fields, tensors = method.to_peft(model, adapter.settings, tensors)
    base = fingerprint(model)
    if fields is not None:
        fields["revision"] = f"{_REVISION}:{adapter.method}:{base}"
    content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    about: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "method": adapter.method,
        "settings": to_dict(adapter.settings),
        "base": base,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    plain = unwrapped(model)
    if isinstance(plain, GenerativeModel):
        about["context_length"] = plain.config.context_length
    try:
        write_bytes(folder / TENSORS, content)
        if fields is None:
            (folder / _PEFT).unlink(missing_ok=True)
        else:
            write_bytes(folder / _PEFT, _json_bytes(fields))
        write_bytes(folder / OURS, _json_bytes(signed(about)))
    except OSError as error:
        raise AdapterError(f"adapter {folder} cannot be written: {error.strerror}") from error
    return len(content)


@overload
def load_adapter(
    model: GenerativeModel, folder: str | Path, name: str | None = None
) -> GenerativeModel: ...


@overload
def load_adapter(model: nn.Module, folder: str | Path, name: str | None = None) -> nn.Module: ...


def load_adapter(model: nn.Module, folder: str | Path, name: str | None = None) -> nn.Module:
    """Attach the adapter of a folder; it alone is active and trained from now on.

    One that was trained on a longer context is attached to a copy that reads it.

    Args:
        model: the base that the adapter was trained on; changed in place, but for its context and
            unless the method has to wrap it whole.
        folder: written here or by PEFT.
        name: to call it by; empty: as it was called.

    Returns:
        The model to use from now on.

    Raises:
        AdapterError: if the folder cannot be read, is of another base, or holds other tensors than
            its method and settings ask for. Nothing is changed then.
    """
    stored = read_adapter(folder)
    name = name or stored.name
    if stored.base is not None:
        refuse_other_base(model, stored.base, f"adapter {folder}")
    plain, length = unwrapped(model), stored.context_length
    if isinstance(plain, GenerativeModel) and length and length > plain.config.context_length:
        model = extended(plain, length)  # it refuses one that has adapters
    before = active_adapters(model)
    with torch.random.fork_rng(devices=[]):  # the start is drawn, and then overwritten
        model = attach(model, stored.method, stored.settings, name)
    try:
        fill(trained_parameters(model, name), stored.tensors, f"{folder}/{TENSORS}")
    except AdapterError:
        model = detach(model, name)
        activate(model, before)
        raise
    return model


def refuse_other_base(model: nn.Module, base: str, what: str) -> None:
    """Refuse a model that is not the one with this fingerprint.

    Raises:
        AdapterError: naming ``what``.
    """
    own = fingerprint(model)
    if base != own:
        raise AdapterError(
            f"{what} was trained on the base {base[:12]} and this model is {own[:12]}: load it "
            "on its own base"
        )


@with_config(extra="forbid")
class _About(Attached):
    """What ``tinylm.json`` holds."""

    format: str
    sha256: str
    context_length: NotRequired[Annotated[int, Field(ge=2)]]


def read_adapter(folder: str | Path) -> StoredAdapter:
    """Read the files of an adapter.

    Raises:
        AdapterError: if one is missing, damaged or of another format or method.
    """
    folder = Path(folder)
    if (folder / OURS).exists():
        about, tensors = read_files(folder, TENSORS, OURS, "adapter", FORMAT, _About)
        method = METHODS.load(about["method"])
        settings = from_dict(method.Settings, about["settings"], f"{folder}/{OURS}")
        if hasattr(method, "from_peft"):
            tensors = method.from_peft(tensors)
        name, base, length = about["name"], about["base"], about.get("context_length")
        return StoredAdapter(about["method"], settings, tensors, name, base, length)
    return _read_peft(folder, *read_files(folder, TENSORS, _PEFT, "adapter"))


@overload
def read_files(
    folder: Path, tensors: str, about: str, what: str
) -> tuple[dict[str, Any], dict[str, Tensor]]: ...


@overload
def read_files(
    folder: Path, tensors: str, about: str, what: str, form: str, kind: type[About]
) -> tuple[About, dict[str, Tensor]]: ...


def read_files(
    folder: Path, tensors: str, about: str, what: str, form: str = "", kind: Any = dict[str, Any]
) -> tuple[Any, dict[str, Tensor]]:
    """Read a file of tensors and the JSON object that stands beside it, and check both.

    Args:
        folder: of both.
        tensors: name of the safetensors file.
        about: name of the JSON file.
        what: they are, for messages.
        form: the ``format`` that the object must state; empty: a file of another's, which has none.
        kind: of the object, with the key ``sha256`` of the tensors where ``form`` is given. It must
            refuse unknown keys.

    Returns:
        The object and name -> tensor.

    Raises:
        AdapterError: if one is missing, cannot be read, is of another format, has changed since it
            was written, or holds numbers that are not finite.
    """
    for name in (tensors, about):
        if not (folder / name).exists():
            raise AdapterError(f"{folder} holds no {what}: {name} is missing")
    refuse = refusal(folder / about, AdapterError)
    value = read_json(folder / about, dict[str, Any], AdapterError)
    if form:
        if value.get("format") != form:
            raise AdapterError(
                f"{what} {folder} has format {shown(value.get('format'))}, not {form!r}"
            )
        if CHECKSUM in value:  # versions before wrote none
            value = verified(value, refuse)
    value = checked(kind, value, refuse)
    read_tensor_headers(folder / tensors, AdapterError)
    content = (folder / tensors).read_bytes()
    if form and hashlib.sha256(content).hexdigest() != value["sha256"]:
        raise AdapterError(
            f"{what} {folder} is damaged: {tensors} has changed since it was written"
        )
    held = safetensors.torch.load(content)
    for name, tensor in held.items():
        if not tensor.isfinite().all():
            raise AdapterError(f"{folder / tensors}: {key_shown(name)} is not finite")
    return value, held


def _read_peft(
    folder: Path, fields: Mapping[str, Any], tensors: dict[str, Tensor]
) -> StoredAdapter:
    source = f"{folder}/{_PEFT}"
    kind = fields.get("peft_type")
    types = {METHODS.load(name).peft_type: name for name in METHODS}
    types.pop("")
    own = types.get(kind) if isinstance(kind, str) else None
    if own is None:
        raise AdapterError(
            f"{source}: peft_type {shown(kind)} cannot be read; those that can: {', '.join(types)}"
        )
    written_by, base = "", None
    if str(fields.get("revision")).startswith(f"{_REVISION}:"):
        written_by, _, base = fields["revision"].removeprefix(f"{_REVISION}:").partition(":")
    if written_by not in ("", own):
        raise AdapterError(
            f"{folder}: {OURS} is missing, without which an adapter of method {written_by} cannot "
            "be read: copy the folder whole, or train the adapter again"
        )
    method = METHODS.load(own)
    tensors = method.from_peft(tensors)
    settings = method.settings_from_peft(fields, tensors, source)
    return StoredAdapter(own, settings, tensors, base=base)


@torch.no_grad()
def fill(
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    source: str,
    what: str = "adapter",
) -> None:
    """Copy tensors into the parameters of the same names; all are compared before one is copied.

    Args:
        parameters: all that are wanted.
        tensors: all that there are.
        source: of the tensors, for messages.
        what: has the parameters, for messages.

    Raises:
        AdapterError: if one is missing, too many, or of another shape.
    """
    for name in sorted(parameters.keys() | tensors.keys()):
        if name not in tensors:
            raise AdapterError(f"{source}: {name} is missing")
        if name not in parameters:
            raise AdapterError(f"{source}: {name} is not of this {what}")
        if tensors[name].shape != parameters[name].shape:
            raise AdapterError(
                f"{source}: {name} has shape {tuple(tensors[name].shape)}, its settings and the "
                f"model ask for {tuple(parameters[name].shape)}"
            )
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
