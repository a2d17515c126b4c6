"""Adapters on a frozen model: attach, train, switch, stack, merge, remove.

What an adapter adds stands in wrappers (``sites``) under its name. Where it trains parameters of
the base as well (biases, norms), it has copies of its own, which take the place of the base's while
it is active; the base's are kept and come back as the same objects. So any number of adapters
share one base, and with all of them inactive the model is the base, bit for bit.

A model's list of changes (``model.changes``) is kept true here: it says which adapters are attached
and act now, not every switch on the way there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from torch import nn

from tinylm.errors import AdapterError, nearest, shown
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import MergeableLinear
from tinylm.finetuning.record import Adapter, Record, keep_record, record_of
from tinylm.finetuning.sites import (
    Parts,
    plain_modules,
    plain_parameters,
    unwrapped,
    wrappers,
)
from tinylm.model.base import Change, GenerativeModel, Model
from tinylm.model.changes import change
from tinylm.model.weights import state_sha256
from tinylm.registry import METHODS


@overload
def attach(
    model: GenerativeModel,
    method_name: str,
    settings: Any,
    name: str = "default",
    base: str | None = None,
) -> GenerativeModel: ...


@overload
def attach(
    model: nn.Module,
    method_name: str,
    settings: Any,
    name: str = "default",
    base: str | None = None,
) -> nn.Module: ...


def attach(
    model: nn.Module,
    method_name: str,
    settings: Any,
    name: str = "default",
    base: str | None = None,
) -> nn.Module:
    """Add an adapter to a model; it alone is active and trained from now on.

    Everything else is frozen. Nothing is changed when an error is raised.

    Args:
        model: any module; changed in place, unless the method has to wrap it whole.
        method_name: in the registry METHODS.
        settings: of the method's type in ``tinylm.config.finetuning``.
        name: by which the adapter is known.
        base: fingerprint of the model without adapters, where it is known; empty: computed.

    Returns:
        The model to use from now on.

    Raises:
        ConfigError: for an unknown method.
        AdapterError: for a name that is taken or cannot be one, settings of another method, a
            merged model, a model that makes no text itself, or what the method refuses.
    """
    method: type[Method] = METHODS.load(method_name)
    if not isinstance(settings, method.Settings):
        raise AdapterError(
            f"method {method_name} takes a {method.Settings.__name__}, not a "
            f"{type(settings).__name__}"
        )
    if not name or "." in name or "/" in name or hasattr(Parts(), name):
        raise AdapterError(
            f"adapter name {shown(name)} cannot be used: give another one, without dots and slashes"
        )
    plain = unwrapped(model)
    if isinstance(plain, Model) and not isinstance(plain, GenerativeModel):
        raise AdapterError(
            f"adapters of a {type(plain).__name__} are attached to its body: give model.body"
        )
    record = record_of(model)
    if record is None:
        required = {key: p.requires_grad for key, p in plain_parameters(model).items()}
        changes = list(plain.changes) if isinstance(plain, Model) else []
        record = Record(base or fingerprint(model), required, changes)
    if name in record.adapters:
        raise AdapterError(
            f"an adapter {shown(name)} is attached already: detach it or give a new name"
        )
    _refuse_merged(record, "another adapter can be attached")
    modules = dict(plain_modules(model))
    model, trained = method.attach(model, name, settings)
    replaces = any(module is not modules.get(path) for path, module in plain_modules(model))
    adapter = Adapter(method_name, settings, replaces=replaces)
    parameters = plain_parameters(model)
    for key in trained:
        kept = record.base.setdefault(key, parameters[key])
        adapter.own[key] = nn.Parameter(kept.detach().clone())
    record.adapters[name] = adapter
    keep_record(model, record)
    activate(model, [name])
    return model


def adapters(model: nn.Module) -> list[str]:
    """Return the names of a model's adapters, in the order in which they were attached."""
    record = record_of(model)
    return [] if record is None else list(record.adapters)


def active_adapters(model: nn.Module) -> list[str]:
    """Return the names of the adapters that act, in the order in which they do."""
    record = record_of(model)
    return [] if record is None else list(record.active)


def is_merged(model: nn.Module) -> bool:
    """Whether the active adapters are merged into the weights."""
    record = record_of(model)
    return record is not None and record.merged


def adapter_of(model: nn.Module, name: str) -> Adapter:
    """Return what is known of an adapter.

    Raises:
        AdapterError: if there is none of that name.
    """
    return _known(model, [name]).adapters[name]


def trained_parameters(model: nn.Module, name: str | None = None) -> dict[str, nn.Parameter]:
    """Return the parameters of an adapter: what is trained, counted and saved.

    Args:
        model: with the adapter attached, active or not.
        name: of the adapter; empty: of every one, under ``adapter/parameter``.

    Returns:
        ``path of the adapted module.name in its part`` -> parameter, and the adapter's own copies
        of base parameters under the base's names.

    Raises:
        AdapterError: if there is none of that name.
    """
    if name is None:
        return {
            f"{adapter}/{key}": parameter
            for adapter in adapters(model)
            for key, parameter in trained_parameters(model, adapter).items()
        }
    own = adapter_of(model, name).own
    names: dict[nn.Parameter, str] = {}  # parts may share one: it counts where it is met first
    for path, wrapper in wrappers(model):
        if name in wrapper.parts:
            for key, parameter in wrapper.parts[name].named_parameters():
                names.setdefault(parameter, f"{path}.{key}" if path else key)
    return {key: parameter for parameter, key in names.items()} | own


def activate(model: nn.Module, names: Sequence[str], trained: Sequence[str] | None = None) -> None:
    """Let these adapters act, in this order, and no others; none at all leaves the base.

    Args:
        model: with the adapters attached.
        names: of the adapters.
        trained: those whose parameters require a gradient; empty: all that act.

    Raises:
        AdapterError: for an unknown name, a merged model, or two adapters that train the same
            parameter of the base; nothing is changed then.
    """
    if record_of(model) is None and not names:
        return
    record = _known(model, [*names, *(trained or ())])
    _refuse_merged(record, "other adapters can be active")
    wanted = dict(record.base)
    owner: dict[str, str] = {}
    for name in dict.fromkeys(names):
        for key, parameter in record.adapters[name].own.items():
            if key in owner:
                raise AdapterError(
                    f"adapters {shown(owner[key])} and {shown(name)} both have their own {key}: "
                    "only one of them can be active"
                )
            owner[key] = name
            wanted[key] = parameter
    record.active = list(dict.fromkeys(names))
    for _, wrapper in wrappers(model):
        wrapper.parts.active = list(record.active)
    _swap_in(model, wanted)
    _require_gradients(model, record, record.active if trained is None else trained)
    record.write_down(model)


def merge(model: nn.Module) -> None:
    """Move the active adapters' updates into copies of the weights that they act on.

    Outputs stay the same to rounding and cost what the base's cost. Does nothing if merged already.

    Raises:
        AdapterError: if there is no adapter, or one cannot be merged; nothing is changed then.
    """
    record = _known(model, [])
    merged = [wrapper for _, wrapper in wrappers(model)]
    for wrapper in merged:
        wrapper.refuse_merge()
    for wrapper in merged:
        wrapper.merge()
    record.merged = True
    record.write_down(model)


def unmerge(model: nn.Module) -> None:
    """Undo ``merge``: the weights are the same bits as before. Does nothing if not merged.

    Raises:
        AdapterError: if there is no adapter.
    """
    record = _known(model, [])
    for _, wrapper in wrappers(model):
        wrapper.unmerge()
    record.merged = False
    record.write_down(model)


def choose_rank(model: nn.Module, name: str, rank: int) -> None:
    """Note which of its ranks an adapter is used at; the method sees to it.

    Raises:
        AdapterError: if there is none of that name.
    """
    record = _known(model, [name])
    record.adapters[name].rank = rank
    record.write_down(model)


@overload
def detach(model: GenerativeModel, name: str) -> GenerativeModel: ...


@overload
def detach(model: nn.Module, name: str) -> nn.Module: ...


def detach(model: nn.Module, name: str) -> nn.Module:
    """Remove an adapter; with the last one the model is what it was before the first.

    Returns:
        The model to use from now on.

    Raises:
        AdapterError: if there is none of that name, or the model is merged.
    """
    record = _known(model, [name])
    _refuse_merged(record, "an adapter can be removed")
    trained = [adapter for adapter in record.active if adapter != name]
    activate(model, trained)
    for path, wrapper in list(wrappers(model)):
        if name in wrapper.parts:
            del wrapper.parts[name]
        if not wrapper.parts:
            model = _unwrap(model, path, wrapper, wrapper.base)
    if record.adapters[name].replaces:
        record.before += [record.attached(name), change("detach", name=name)]
    del record.adapters[name]
    still = {key for adapter in record.adapters.values() for key in adapter.own}
    record.base = {key: kept for key, kept in record.base.items() if key in still}
    if record.adapters:
        record.write_down(model)
    else:
        _forget(model, record, record.before)
    return model


@overload
def fold(model: GenerativeModel) -> GenerativeModel: ...


@overload
def fold(model: nn.Module) -> nn.Module: ...


def fold(model: nn.Module) -> nn.Module:
    """Merge the active adapters for good, drop the others, and return the plain model.

    Raises:
        AdapterError: if there is no adapter, or one that acts cannot be merged, or is on a weight
            that another module of the model shares; nothing is changed then.
    """
    record = _known(model, [])
    refuse_unfoldable(model)
    changes = [*record.changes(), change("fold")]
    merge(model)
    for path, wrapper in list(wrappers(model)):
        model = _unwrap(model, path, wrapper, wrapper.folded())
    _forget(model, record, changes)
    return model


def refuse_unfoldable(model: nn.Module) -> None:
    """Refuse a model whose adapters ``fold`` could not move into the weights.

    Raises:
        AdapterError: as ``fold`` does.
    """
    _refuse_shared(model)
    for _, wrapper in wrappers(model):
        wrapper.refuse_merge()


def fingerprint(model: nn.Module) -> str:
    """Return a hash over a model's tensors that tells one base from another.

    With adapters attached it is that of the base before the first of them.
    """
    record = record_of(model)
    return state_sha256(model) if record is None else record.fingerprint


def _known(model: nn.Module, names: Sequence[str]) -> Record:
    """Return the record of a model that has these adapters."""
    record = record_of(model)
    if record is None:
        raise AdapterError("the model has no adapter: attach or load one first")
    for name in names:
        if name not in record.adapters:
            raise AdapterError(f"no adapter is named {shown(name)}{nearest(name, record.adapters)}")
    return record


def _refuse_merged(record: Record, what: str) -> None:
    if record.merged:
        raise AdapterError(f"adapters are merged into the weights: unmerge before {what}")


def _swap_in(model: nn.Module, wanted: dict[str, nn.Parameter]) -> None:
    """Put parameters in the places of those that have these names now, tied ones included."""
    now = plain_parameters(model)
    new: dict[int, nn.Parameter] = {}
    for key, parameter in wanted.items():
        if now[key] is not parameter:
            # The model may have moved while this one was not part of it.
            parameter.data = parameter.data.to(now[key])
            new[id(now[key])] = parameter
    if not new:
        return
    for module in model.modules():
        for key, held in module._parameters.items():
            if id(held) in new:
                module._parameters[key] = new[id(held)]


def _require_gradients(model: nn.Module, record: Record, trained: Sequence[str]) -> None:
    """Let gradients reach the parameters of these adapters and nothing else."""
    for parameter in (*model.parameters(), *record.base.values()):
        parameter.requires_grad_(False)
    for name, adapter in record.adapters.items():
        for parameter in (*trained_parameters(model, name).values(), *adapter.own.values()):
            parameter.requires_grad_(name in trained)


def _unwrap(model: nn.Module, path: str, wrapper: nn.Module, inside: nn.Module) -> nn.Module:
    """Put what is inside a wrapper in its place; return the model, which may be what was inside."""
    if model is wrapper:
        return inside
    for module in model.modules():
        for key, child in module._modules.items():
            if child is wrapper:
                module._modules[key] = inside
    return model


def _forget(model: nn.Module, record: Record, changes: Sequence[Change]) -> None:
    """Drop the record of a plain model and put back which parameters require gradients.

    Args:
        model: without wrappers.
        record: of its adapters.
        changes: that made the model what it is.
    """
    keep_record(model, None)
    plain = unwrapped(model)
    if isinstance(plain, Model):
        plain.write_changes(changes, {})
    for key, parameter in plain_parameters(model).items():
        parameter.requires_grad_(record.required.get(key, True))


def _refuse_shared(model: nn.Module) -> None:
    """Refuse to fold into a weight that is used elsewhere: the other use would not follow."""
    uses: dict[int, list[str]] = {}
    for path, module in plain_modules(model):
        for key, parameter in module.named_parameters(recurse=False):
            uses.setdefault(id(parameter), []).append(f"{path}.{key}" if path else key)
    for path, wrapper in wrappers(model):
        names = uses.get(id(unwrapped(wrapper)._parameters.get("weight")), [])
        acts = next(wrapper.parts.acting(), None) is not None
        if isinstance(wrapper, MergeableLinear) and acts and len(names) > 1:
            raise AdapterError(
                f"{' and '.join(names)} are one tensor: an adapter on {path} cannot be folded into "
                "it; use it attached or merged, or leave it out of the targets"
            )
