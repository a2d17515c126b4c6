"""Name -> ``"module:object"``, imported when used.

A new tokenizer, corpus, model, positional encoding, strategy, schedule, optimizer, experiment,
check, report section or command is one new file and one line here. The error of an unknown name
lists the nearest ones.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from tinylm.errors import ConfigError, nearest, shown


class Registry(Mapping[str, str]):
    """A read-only table of one kind of part; ``load`` imports an entry on first use."""

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        self.check(name)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, name: str) -> str:
        """Return ``name`` if it is known.

        Raises:
            ConfigError: naming the nearest known names.
        """
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {shown(name)}{nearest(name, self._entries)}")
        return name

    def load(self, name: str) -> Any:
        """Import and return the object behind ``name``."""
        module, _, attribute = self[name].partition(":")
        return getattr(importlib.import_module(module), attribute)


TOKENIZERS = Registry(
    "tokenizer",
    {
        "word": "tinylm.tokenizers.word:WordTokenizer",
        "bytes": "tinylm.tokenizers.bytes:BytesTokenizer",
        "bpe": "tinylm.tokenizers.bpe:BPETokenizer",
        "unigram": "tinylm.tokenizers.unigram:UnigramTokenizer",
        "wordpiece": "tinylm.tokenizers.wordpiece:WordPieceTokenizer",
    },
)

CORPORA = Registry(
    "corpus",
    {
        "stories": "tinylm.data.corpora.stories:StoriesCorpus",
        "letters": "tinylm.data.corpora.letters:LettersCorpus",
        "skills": "tinylm.data.corpora.skills:SkillsCorpus",
        "tinystories": "tinylm.data.corpora.tinystories:TinyStoriesCorpus",
        "files": "tinylm.data.corpora.files:FilesCorpus",
        "pairs": "tinylm.data.corpora.pairs:PairsCorpus",
    },
)

MODELS = Registry(
    "model kind",
    {
        "decoder": "tinylm.model.decoder:DecoderLM",
        "prefix-lm": "tinylm.model.prefix_lm:PrefixLM",
        "masked": "tinylm.model.masked:MaskedLM",
        "rnn": "tinylm.model.recurrent.lm:ElmanLM",
        "linear-rnn": "tinylm.model.recurrent.lm:LinearLM",
        "gru": "tinylm.model.recurrent.lm:GRULM",
        "lstm": "tinylm.model.recurrent.lm:LSTMLM",
        "encoder-decoder": "tinylm.model.encoder_decoder:EncoderDecoderLM",
        "seq2seq-additive": "tinylm.model.recurrent.seq2seq:AdditiveSeq2SeqLM",
        "seq2seq-multiplicative": "tinylm.model.recurrent.seq2seq:MultiplicativeSeq2SeqLM",
    },
)

CHANGES = Registry(
    "change of a model",
    {
        "extend": "tinylm.finetuning.changes:extend",
        "attach": "tinylm.finetuning.changes:attach",
        "rank": "tinylm.finetuning.changes:rank",
        "activate": "tinylm.finetuning.changes:activate",
        "detach": "tinylm.finetuning.changes:detach",
        "merge": "tinylm.finetuning.changes:merge",
        "fold": "tinylm.finetuning.changes:fold",
        "classify": "tinylm.finetuning.changes:classify",
        "reward": "tinylm.alignment.reward_model:made_again",
        "mask": "tinylm.model.masks:made_again",
        "quantize": "tinylm.compression.quantizing:made_again",
    },
)

POSITIONS = Registry(
    "positional encoding",
    {
        "sinusoidal": "tinylm.model.positions.sinusoidal:SinusoidalPositions",
        "learned": "tinylm.model.positions.learned:LearnedPositions",
        "rotary": "tinylm.model.positions.rotary:RotaryPositions",
        "alibi": "tinylm.model.positions.alibi:AlibiPositions",
    },
)

ACTIVATIONS = Registry(
    "activation",
    {
        "relu": "tinylm.model.activations.relu:RELU",
        "gelu": "tinylm.model.activations.gelu:GELU",
        "gelu-tanh": "tinylm.model.activations.gelu:GELU_TANH",
        "silu": "tinylm.model.activations.silu:SILU",
    },
)

STRATEGIES = Registry(
    "decoding strategy",
    {
        "greedy": "tinylm.generation.strategies.greedy:Greedy",
        "sampling": "tinylm.generation.strategies.sampling:Sampling",
        "beam": "tinylm.generation.strategies.beam:BeamSearch",
    },
)

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adam": "tinylm.training.optimizers:ADAM",
        "adamw": "tinylm.training.optimizers:ADAMW",
        "sgd": "tinylm.training.optimizers:SGD_RULE",
        "torch-adam": "tinylm.training.optimizers:TORCH_ADAM",
        "torch-adamw": "tinylm.training.optimizers:TORCH_ADAMW",
        "torch-sgd": "tinylm.training.optimizers:TORCH_SGD",
    },
)

SCHEDULES = Registry(
    "schedule",
    {
        "constant": "tinylm.training.schedules:constant",
        "linear": "tinylm.training.schedules:linear",
        "cosine": "tinylm.training.schedules:cosine",
        "inverse-sqrt": "tinylm.training.schedules:inverse_sqrt",
    },
)

EXPERIMENTS = Registry(
    "experiment",
    {
        "data": "tinylm.experiments.data:EXPERIMENT",
        "tokenizers": "tinylm.experiments.tokenizers:EXPERIMENT",
        "training": "tinylm.experiments.training:EXPERIMENT",
        "leaderboard": "tinylm.experiments.leaderboard:EXPERIMENT",
        "hyperparameters": "tinylm.experiments.hyperparameters:EXPERIMENT",
        "evaluation": "tinylm.experiments.evaluation:EXPERIMENT",
        "samples": "tinylm.experiments.samples:EXPERIMENT",
        "kv-cache": "tinylm.experiments.kv_cache:EXPERIMENT",
        "beam-search": "tinylm.experiments.beam_search:EXPERIMENT",
        "accumulation": "tinylm.experiments.accumulation:EXPERIMENT",
        "gradient-checkpointing": "tinylm.experiments.gradient_checkpointing:EXPERIMENT",
        "efficiency": "tinylm.experiments.efficiency:EXPERIMENT",
        "precision": "tinylm.experiments.precision:EXPERIMENT",
        "finetuning": "tinylm.experiments.finetuning:EXPERIMENT",
        "attention": "tinylm.experiments.attention:EXPERIMENT",
        "lens": "tinylm.experiments.lens:EXPERIMENT",
        "patching": "tinylm.experiments.patching:EXPERIMENT",
        "induction": "tinylm.experiments.induction:EXPERIMENT",
        "circuit": "tinylm.experiments.circuit:EXPERIMENT",
        "head-subsets": "tinylm.experiments.head_subsets:EXPERIMENT",
        "autocomplete": "tinylm.experiments.autocomplete:EXPERIMENT",
        "encoders": "tinylm.experiments.encoders:EXPERIMENT",
        "pruning": "tinylm.experiments.pruning:EXPERIMENT",
        "quantization": "tinylm.experiments.quantization:EXPERIMENT",
        "distillation": "tinylm.experiments.distillation:EXPERIMENT",
        "compression": "tinylm.experiments.compression:EXPERIMENT",
        "alignment": "tinylm.experiments.alignment:EXPERIMENT",
        "zero": "tinylm.experiments.zero:EXPERIMENT",
        "verification": "tinylm.experiments.verification:EXPERIMENT",
        "lab-svd": "tinylm.experiments.lab_svd:EXPERIMENT",
        "lab-mnist": "tinylm.experiments.lab_mnist:EXPERIMENT",
    },
)

CHECKS = Registry(
    "check",
    {
        "teacher-forcing": "tinylm.experiments.checks.teacher_forcing:run",
        "kv-cache": "tinylm.experiments.checks.kv_cache:run",
        "batching": "tinylm.experiments.checks.batching:run",
        "beam-search": "tinylm.experiments.checks.beam_search:run",
        "accumulation": "tinylm.experiments.checks.accumulation:run",
        "gradient-checkpointing": "tinylm.experiments.checks.gradient_checkpointing:run",
        "precision": "tinylm.experiments.checks.precision:run",
        "compiled-loops": "tinylm.experiments.checks.compiled_loops:run",
        "resume": "tinylm.experiments.checks.resume:run",
        "masks": "tinylm.experiments.checks.masks:run",
        "removed-parts": "tinylm.experiments.checks.removed_parts:run",
        "quantized-weights": "tinylm.experiments.checks.quantized_weights:run",
        "input-ranges": "tinylm.experiments.checks.input_ranges:run",
        "save-and-load": "tinylm.experiments.checks.save_and_load:run",
        "loss": "tinylm.experiments.checks.loss:run",
        "attention": "tinylm.experiments.checks.attention:run",
        "order": "tinylm.experiments.checks.order:run",
        "decoding-cost": "tinylm.experiments.checks.decoding_cost:run",
        "tokenizer": "tinylm.experiments.checks.tokenizer:run",
    },
)

METHODS = Registry(
    "fine-tuning method",
    {
        "lora": "tinylm.finetuning.lora:Lora",
        "dylora": "tinylm.finetuning.dylora:DyLora",
        "qlora": "tinylm.finetuning.qlora:QLora",
        "longlora": "tinylm.finetuning.longlora:LongLora",
        "bottleneck": "tinylm.finetuning.bottleneck:Bottleneck",
        "prefix": "tinylm.finetuning.prefix:Prefix",
        "prompt": "tinylm.finetuning.prompt:Prompt",
        "intrinsic": "tinylm.finetuning.intrinsic:Intrinsic",
        "ia3": "tinylm.finetuning.ia3:IA3",
    },
)

PRUNERS = Registry(
    "pruning method",
    {
        "magnitude": "tinylm.compression.magnitude:Magnitude",
        "random": "tinylm.compression.random_pruning:Random",
        "wanda": "tinylm.compression.wanda:Wanda",
        "taylor": "tinylm.compression.taylor:Taylor",
        "heads": "tinylm.compression.heads:Heads",
        "neurons": "tinylm.compression.neurons:Neurons",
        "layers": "tinylm.compression.layers:Layers",
    },
)

QUANTIZERS = Registry(
    "quantization method",
    {
        "rtn": "tinylm.compression.rounding:Rounding",
        "nf4": "tinylm.compression.normal_float:NF4",
        "gptq": "tinylm.compression.gptq:GPTQ",
        "awq": "tinylm.compression.awq:AWQ",
        "smoothquant": "tinylm.compression.smoothquant:SmoothQuant",
    },
)

DISTILLATIONS = Registry(
    "distillation method",
    {
        "word": "tinylm.tasks.distillation.word:WordLevel",
        "reverse": "tinylm.tasks.distillation.word:ReverseKL",
        "sequence": "tinylm.tasks.distillation.sequence:SequenceLevel",
        "both": "tinylm.tasks.distillation.sequence:Combined",
        "hidden": "tinylm.tasks.distillation.hidden:HiddenStates",
        "on-policy": "tinylm.tasks.distillation.on_policy:OnPolicy",
    },
)

RULES = Registry(
    "rule",
    {
        "happy-end": "tinylm.alignment.rules.happy_end:HappyEnd",
        "sad-end": "tinylm.alignment.rules.sad_end:SadEnd",
        "dialogue": "tinylm.alignment.rules.dialogue:Dialogue",
        "short": "tinylm.alignment.rules.short:Short",
        "words": "tinylm.alignment.rules.given_words:GivenWords",
        "no-repetition": "tinylm.alignment.rules.no_repetition:NoRepetition",
        "animal": "tinylm.alignment.rules.animal:Animal",
    },
)

ALIGNMENTS = Registry(
    "alignment method",
    {
        "dpo": "tinylm.tasks.alignment.dpo:DPO",
        "ipo": "tinylm.tasks.alignment.ipo:IPO",
        "kto": "tinylm.tasks.alignment.kto:KTO",
        "simpo": "tinylm.tasks.alignment.simpo:SimPO",
        "reinforce": "tinylm.tasks.alignment.reinforce:Reinforce",
        "ppo": "tinylm.tasks.alignment.ppo:PPO",
        "grpo": "tinylm.tasks.alignment.grpo:GRPO",
    },
)

COMMANDS = Registry(
    "command",
    {
        "train": "tinylm.cli.train:train",
        "generate": "tinylm.cli.generate:generate",
        "finetune": "tinylm.cli.finetune:finetune",
        "merge": "tinylm.cli.merge:merge",
        "quantize": "tinylm.cli.quantize:quantize",
        "compress": "tinylm.cli.compress:compress",
        "distill": "tinylm.cli.distill:distill",
        "align": "tinylm.cli.align:align",
        "instruct": "tinylm.cli.instruct:instruct",
        "self-instruct": "tinylm.cli.self_instruct:self_instruct",
        "preferences": "tinylm.cli.preferences:preferences",
        "reward": "tinylm.cli.reward:reward",
        "classify": "tinylm.cli.classify:classify",
        "prune": "tinylm.cli.prune:prune",
        "evaluate": "tinylm.cli.evaluate:evaluate",
        "attention": "tinylm.cli.attention:attention",
        "lens": "tinylm.cli.lens:lens",
        "explore": "tinylm.cli.explore:explore",
        "patch": "tinylm.cli.patch:patch",
        "verify": "tinylm.cli.verify:verify",
        "plan": "tinylm.cli.plan:app",
        "report": "tinylm.cli.report:report",
        "handin": "tinylm.cli.handin:handin",
        "experiment": "tinylm.cli.experiment:experiment",
        "data": "tinylm.cli.data:data",
        "tokenizer": "tinylm.cli.tokenizer:app",
        "config": "tinylm.cli.config:config",
    },
)
