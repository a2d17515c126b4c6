"""``tinylm plan cluster``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import ConfigFile, Overrides, Preset, configuration
from tinylm.cli.output import say_json

if TYPE_CHECKING:
    from tinylm.config import RunConfig
    from tinylm.planning.cluster.cards import Machine
    from tinylm.planning.cluster.layout import Layout
    from tinylm.planning.cluster.plan import ClusterPlan
    from tinylm.planning.cluster.shapes import Shape


def cluster(
    gpus: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cards, all together.")
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    override: Overrides = [],  # noqa: B006
    parameters: Annotated[
        float | None,
        typer.Option(min=1, metavar="N", help="Of a model shaped as GPT-3, in place of a preset."),
    ] = None,
    layers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Or by its sizes.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, metavar="N", help="Width.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of queries.")] = None,
    key_heads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of keys and values; empty: as many.")
    ] = None,
    ffn: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Inner width; empty: 4 times the width.")
    ] = None,
    gated: Annotated[
        bool, typer.Option("--gated", help="Three feed-forward matrices, no biases, untied.")
    ] = False,
    experts: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Feed-forward parts of a layer.")
    ] = None,
    active_experts: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of a token; empty: 2.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Tokens of a text; empty: 2,048.")
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Types; empty: 50,304.")
    ] = None,
    data_parallel: Annotated[
        int | None, typer.Option(metavar="N", help="Copies of the model; empty: what is left.")
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option(metavar="N", help="Cards that share every matrix.")
    ] = 1,
    pipeline_parallel: Annotated[int, typer.Option(metavar="N", help="Stages of layers.")] = 1,
    context_parallel: Annotated[
        int, typer.Option(metavar="N", help="Cards that share the places of a text.")
    ] = 1,
    expert_parallel: Annotated[
        int, typer.Option(metavar="N", help="Copies that share the experts.")
    ] = 1,
    zero: Annotated[
        int, typer.Option(metavar="STAGE", help="Of ZeRO: 0, 1, 2 or 3 (as FSDP).")
    ] = 0,
    micro_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Texts of a forward pass; empty: 1.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Texts of a step, all copies; empty: a micro-batch each."),
    ] = None,
    interleave: Annotated[
        int, typer.Option(metavar="N", help="Parts of a stage's layers, in turns.")
    ] = 1,
    recompute: Annotated[
        str, typer.Option(metavar="WHAT", help="none, selective or full (layers again).")
    ] = "none",
    keep_scores: Annotated[
        bool, typer.Option("--keep-scores", help="Attention without blocks: scores are kept.")
    ] = False,
    no_sequence: Annotated[
        bool, typer.Option("--no-sequence-parallel", help="Norms and dropout whole on every card.")
    ] = False,
    overlap: Annotated[
        float, typer.Option(help="Share of data-parallel traffic that may be hidden.")
    ] = 1.0,
    gradient_bytes: Annotated[
        int, typer.Option(min=1, max=8, help="Of a number of gradients, kept and sent.")
    ] = 2,
    card: Annotated[
        str, typer.Option(metavar="NAME", help="a100, a100-40, h100 or h200, with its links.")
    ] = "h100",
    peak: Annotated[
        float | None, typer.Option(min=1e-6, metavar="TFLOPS", help="Of bf16 products.")
    ] = None,
    attainable: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, metavar="SHARE", help="Of it that a step's products reach."),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=1e-6, metavar="GIB", help="Of a card.")
    ] = None,
    memory_bandwidth: Annotated[
        float | None, typer.Option(min=1e-6, metavar="GB/S", help="Of a card's memory.")
    ] = None,
    per_node: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cards.")] = None,
    link_within: Annotated[
        float | None,
        typer.Option(min=1e-6, metavar="GB/S", help="A card sends within a node."),
    ] = None,
    link_between: Annotated[
        float | None,
        typer.Option(min=1e-6, metavar="GB/S", help="A card sends to other nodes."),
    ] = None,
    latency_within: Annotated[
        float | None, typer.Option(min=0, metavar="US", help="Of a message within a node.")
    ] = None,
    latency_between: Annotated[
        float | None, typer.Option(min=0, metavar="US", help="Of a message between nodes.")
    ] = None,
    tokens: Annotated[
        float, typer.Option(min=0, metavar="N", help="To train on: days, cost and failures.")
    ] = 0.0,
    price: Annotated[float, typer.Option(min=0, help="Of a card's hour.")] = 0.0,
    card_hours: Annotated[
        float | None,
        typer.Option(min=1e-3, metavar="H", help="Between failures of a card; empty: 50,700."),
    ] = None,
    restart: Annotated[
        float, typer.Option(min=0, metavar="MIN", help="Until work goes on after a failure.")
    ] = 10.0,
    storage: Annotated[
        float,
        typer.Option(min=0, metavar="GB/S", help="Of checkpoints, all nodes; 0: 1 GB/s each."),
    ] = 0.0,
    published: Annotated[
        bool, typer.Option("--published", help="Show instead how published runs are predicted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what training on a cluster takes: time, memory, traffic, failures and cost.

    The model is a preset's or file's, or one of given sizes. What is left empty of a card and its
    links comes from data sheets (docs/scaling.md).
    """
    from tinylm.errors import ConfigError

    if published:
        _show_published(as_json)
        return
    if gpus is None:
        raise ConfigError("give --gpus N, or --published alone")
    _refuse_endless(
        {
            "--parameters": parameters, "--overlap": overlap, "--peak": peak,
            "--attainable": attainable, "--memory": memory, "--memory-bandwidth": memory_bandwidth,
            "--link-within": link_within, "--link-between": link_between,
            "--latency-within": latency_within, "--latency-between": latency_between,
            "--tokens": tokens, "--price": price, "--card-hours": card_hours, "--restart": restart,
            "--storage": storage,
        }
    )  # fmt: skip
    sizes = {
        "--parameters": parameters, "--layers": layers, "--hidden": hidden, "--heads": heads,
        "--key-heads": key_heads, "--ffn": ffn, "--gated": gated or None, "--experts": experts,
        "--active-experts": active_experts, "--context": context, "--vocabulary": vocabulary,
    }  # fmt: skip
    given = [option for option, value in sizes.items() if value is not None]
    run: RunConfig | None = None
    if not given:
        run = configuration(preset, config, None, override)
    elif preset is not None or config is not None or override:
        raise ConfigError(
            f"{given[0]} describes a model, and so do --preset, --config and -o: give either"
        )
    from tinylm.planning.cluster.plan import ClusterPlan, Costs
    from tinylm.planning.cluster.reliability import CARD_HOURS

    layout = _layout(
        run, gpus, (data_parallel, tensor_parallel, pipeline_parallel, context_parallel),
        micro_batch, batch, expert=expert_parallel, stage=zero, interleave=interleave,
        recompute=recompute, flash=not keep_scores, sequence=not no_sequence, overlap=overlap,
        gradient_bytes=gradient_bytes,
    )  # fmt: skip
    machine = _machine(
        card, gpus, attainable,
        {"peak": (peak, 1e12), "memory": (memory, 2**30), "bandwidth": (memory_bandwidth, 1e9)},
        {
            "per_node": (per_node, 1), "within": (link_within, 1e9),
            "between": (link_between, 1e9), "latency_within": (latency_within, 1e-6),
            "latency_between": (latency_between, 1e-6),
        },
    )  # fmt: skip
    costs = Costs(tokens, price, card_hours or CARD_HOURS, 60 * restart, 1e9 * storage)
    plan = ClusterPlan(_shape(run, sizes), layout, machine, costs)
    result = plan.as_result()
    own = _own_activations(run, plan)
    if own is not None:
        result["memory"]["activations_as_tinylm_keeps_them"] = own
    if as_json:
        say_json(result)
        return
    from tinylm.cli.cluster_tables import print_plan

    print_plan(plan, own)


def _refuse_endless(numbers: dict[str, float | None]) -> None:
    """Refuse what is no number or has no end.

    Raises:
        ConfigError: naming the option.
    """
    import math

    from tinylm.errors import ConfigError

    for option, number in numbers.items():
        if number is not None and not (math.isfinite(number) and number < 1e100):
            raise ConfigError(f"{option} {number} is no number to plan with: give one below 1e100")


def _shape(run: RunConfig | None, sizes: dict[str, Any]) -> Shape:
    """Return the model of a run, or the one of the sizes given.

    Raises:
        ConfigError: if a size is missing, or contradicts another.
    """
    from dataclasses import replace

    from tinylm.errors import ConfigError
    from tinylm.planning.cluster.shapes import Shape, shape_of_size

    if run is not None:
        return Shape.of(_with_vocabulary(run))
    context, vocabulary = sizes["--context"] or 2048, sizes["--vocabulary"] or 50_304
    own = [name for name in ("--layers", "--hidden", "--heads") if sizes[name] is not None]
    if sizes["--parameters"] is not None:
        others = [name for name, value in sizes.items() if value is not None][1:]
        clash = [name for name in others if name not in ("--context", "--vocabulary")]
        if clash:
            raise ConfigError(f"--parameters chooses the sizes: leave out {clash[0]}, or it")
        return shape_of_size(sizes["--parameters"], context, vocabulary)
    if len(own) < 3:
        missing = [name for name in ("--layers", "--hidden", "--heads") if name not in own]
        raise ConfigError(
            f"a model by its sizes needs {' and '.join(missing)} too; or give --parameters"
        )
    shape = Shape.gpt(sizes["--layers"], sizes["--hidden"], sizes["--heads"], context, vocabulary)
    shape = replace(shape, key_heads=sizes["--key-heads"] or shape.heads)
    if shape.heads % shape.key_heads:
        raise ConfigError(
            f"--heads {shape.heads} is not divisible by --key-heads {shape.key_heads}: heads of "
            "queries share one of keys in equal groups"
        )
    shape = replace(shape, ffn=sizes["--ffn"] or shape.ffn)
    shape = _with_experts(shape, sizes["--experts"], sizes["--active-experts"])
    if sizes["--gated"]:  # as Llama: RMS norms, rotary positions, no dropout
        shape = replace(shape, gated=True, tied=False, bias=False, norms=1, places=0, dropout=False)
    return shape


def _with_experts(shape: Shape, experts: int | None, active: int | None) -> Shape:
    from dataclasses import replace

    from tinylm.errors import ConfigError

    if experts is None:
        if active is not None:
            raise ConfigError("--active-experts has no effect without --experts: give both")
        return shape
    active = min(2, experts) if active is None else active
    if active > experts:
        raise ConfigError(f"--active-experts {active} is more than --experts {experts}")
    return replace(shape, experts=experts, active=active)


def _with_vocabulary(run: RunConfig) -> Any:
    """Return a run's model, its vocabulary the largest that the tokenizer may have where empty."""
    from dataclasses import replace

    from tinylm.registry import TOKENIZERS

    if run.model.vocab_size is not None:
        return run.model
    tokenizer = TOKENIZERS.load(run.tokenizer.kind)
    return replace(run.model, vocab_size=tokenizer.largest_vocabulary(run.tokenizer))


def _layout(
    run: RunConfig | None,
    gpus: int,
    degrees: tuple[int | None, int, int, int],
    micro_batch: int | None,
    batch: int | None,
    **settings: Any,
) -> Layout:
    """Return the layout; what is empty of it follows from the rest, and from a run's batch."""
    from tinylm.planning.cluster.layout import Layout

    data, tensor, pipeline, context = degrees
    data = max(1, gpus // max(1, tensor * pipeline * context)) if data is None else data
    times = 1
    if run is not None:
        micro_batch = run.training.batch_size if micro_batch is None else micro_batch
        times = run.training.accumulation_steps
    micro_batch = 1 if micro_batch is None else micro_batch
    batch = data * micro_batch * times if batch is None else batch
    return Layout(
        gpus, data, tensor, pipeline, context, micro_batch=micro_batch, batch=batch, **settings
    )


def _machine(
    name: str,
    gpus: int,
    attainable: float | None,
    card: dict[str, tuple[float | None, float]],
    links: dict[str, tuple[float | None, float]],
) -> Machine:
    """Return the machine of a name, with the figures that are given in its place.

    Args:
        name: as ``--card`` has it.
        gpus: all together; fewer than a node's make a node of them.
        attainable: share of the peak that products reach.
        card: field -> figure and its unit.
        links: the same of the links.
    """
    from dataclasses import replace

    from tinylm.planning.cluster.cards import Machine, machine

    def stated(figures: dict[str, tuple[float | None, float]]) -> dict[str, Any]:
        return {k: value * unit for k, (value, unit) in figures.items() if value is not None}

    known = machine(name)
    figures = stated(card)
    if attainable is not None:
        figures |= {"products": attainable, "training": 1.0}
    own = stated(links)
    if "per_node" not in own and gpus < known.links.per_node:
        own["per_node"] = gpus
    return Machine(replace(known.card, **figures), replace(known.links, **own))


def _own_activations(run: RunConfig | None, plan: ClusterPlan) -> int | None:
    """Return what tinylm's own step keeps of a micro-batch in bf16; None where it has no such."""
    layout = plan.layout
    if run is None or max(layout.tensor, layout.pipeline, layout.context) > 1:
        return None
    from tinylm.planning.activations import activation_bytes

    kept = activation_bytes(
        _with_vocabulary(run),
        layout.micro_batch,
        precision="bf16",
        segment=int(layout.recompute == "full"),
        quick=run.training.speed == "auto",
    )
    return kept["total"]


def _show_published(as_json: bool) -> None:
    from tinylm.planning.cluster.published import published

    runs = published()
    if not as_json:
        from tinylm.cli.cluster_tables import print_published

        print_published(runs)
        return
    say_json(
        [
            {
                "source": run.source,
                "run": run.name,
                "quantity": run.quantity,
                "measured": run.measured,
                "predicted": run.predicted,
                "error": run.error,
                "within": run.within,
                "note": run.note,
            }
            for run in runs
        ]
    )
