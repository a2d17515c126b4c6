"""Examples at the end of every command's help; a test runs each as it is printed.

``runs/quick`` is what ``make report`` leaves, and ``runs/pieces`` a run with byte-level BPE. An
adapter, a classifier or a file that an example takes is made by an example of ``finetune``, or
named in the text of the command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

EXAMPLES: dict[str, tuple[str, str]] = {
    "train": (
        "tinylm train --preset quick --name try -o training.max_steps=20 "
        "-o data.train_stories=200 -o data.validation_stories=20",
        "tinylm train --resume runs/try",
    ),
    "generate": (
        'tinylm generate runs/quick "Once upon a time" --temperature 0.7 --seed 1',
        'tinylm generate runs/quick "One day" --strategy beam --num-beams 5 --num-return 3',
    ),
    "finetune": (
        "tinylm finetune runs/quick --data letters --steps 20",
        "tinylm finetune runs/quick --method prefix --data letters --steps 20 -o length=4",
    ),
    "merge": (
        "tinylm merge runs/quick lora --out runs/merged",
        "tinylm merge runs/quick runs/quick/adapters/lora --out runs/merged-again",
    ),
    "compress": (
        "tinylm compress runs/quick --max-loss 5% --out runs/quick-small",
        "tinylm compress runs/quick --max-loss 100% --out runs/quick-smaller -o steps=20",
    ),
    "quantize": (
        "tinylm quantize runs/quick --bits 8 --out runs/quick-8-bits -o symmetric=true",
        "tinylm quantize runs/quick --method nf4 --out runs/quick-nf4 -o activations=dynamic",
    ),
    "distill": (
        "tinylm distill runs/quick --out runs/student --steps 20 -o model.num_layers=1",
        "tinylm distill runs/quick --out runs/second --method on-policy --steps 20 "
        "-o model.hidden_size=12 -o temperature=2",
    ),
    "align": (
        "tinylm align runs/quick --method reinforce --rewards happy-end --out runs/happy "
        "--steps 5 -o max_new_tokens=40",
        "tinylm align runs/quick --method dpo --rewards short --out runs/preferred --steps 5 "
        "-o max_new_tokens=40 -o ranked_prompts=20",
    ),
    "preferences": (
        "tinylm preferences runs/quick --rule short --out short.jsonl --prompts 20 "
        "--max-new-tokens 40",
        "tinylm preferences runs/quick --rule words -o words=[the,was] --out words.jsonl "
        "--prompts 20 --max-new-tokens 40 --wrong 0.1",
    ),
    "instruct": (
        "tinylm instruct runs/try --out runs/instructed --number 40 --steps 5",
        "tinylm instruct runs/try --out runs/again --number 20 --steps 2 --learning-rate 1e-4",
    ),
    "self-instruct": (
        "tinylm self-instruct runs/instructed --out runs/self --number 4 --steps 2 "
        "-o most_rounds=2 -o held_out=7",
        "tinylm self-instruct runs/try --writer runs/instructed --out runs/taught --number 4 "
        "--steps 2 -o most_rounds=2 -o held_out=0",
    ),
    "reward": (
        "tinylm reward runs/quick --preferences short.jsonl --judge short --out runs/short-reward "
        "--steps 10",
        "tinylm reward runs/quick --rule short --out runs/short-head --steps 10 -o body=frozen "
        "-o ranked_prompts=20 -o max_new_tokens=40",
    ),
    "classify": (
        'tinylm classify runs/quick labels "The dog ran home."',
        "tinylm classify runs/quick labels --data labelled.jsonl --json",
    ),
    "prune": (
        "tinylm prune runs/quick --method wanda --share 0.5 --out runs/half-masked",
        "tinylm prune runs/quick --method heads --share 0.5 --retrain-steps 20 --out runs/fewer",
    ),
    "evaluate": (
        "tinylm evaluate runs/quick",
        "tinylm evaluate runs/quick --adapter lora --data letters --json",
    ),
    "attention": (
        "tinylm attention runs/quick",
        'tinylm attention runs/quick "The dog saw the cat." --adapter lora --output attention',
    ),
    "lens": (
        'tinylm lens runs/quick "The dog saw the cat."',
        'tinylm lens runs/quick "The dog saw the cat." --adapter lora --tuned --html lens.html',
    ),
    "explore": (
        "tinylm explore runs/quick",
        'tinylm explore runs/quick "The dog saw the cat." --out explore.html',
    ),
    "patch": (
        'tinylm patch runs/quick --clean "Lily saw the ball. The" '
        '--corrupted "Lily saw the kite. The" --answer ball --wrong kite',
        'tinylm patch runs/quick --clean "The ball was gone. The" '
        '--corrupted "The kite was gone. The" --answer ball --wrong kite --adapter lora --json',
    ),
    "verify": (
        "tinylm verify runs/quick",
        "tinylm verify runs/quick --json",
    ),
    "plan": (
        "tinylm plan --preset baseline -o model.num_layers=6",
        "tinylm plan --preset full --tokens 1e9 --json",
    ),
    "plan advantage": (
        "tinylm plan advantage --rewards 3,-1,2 --values 4.0,1.0,0.5,0 --gamma 0.95",
        "tinylm plan advantage --rewards 0,0,1 --values 0.2,0.4,0.6,0.5 --truncated --json",
    ),
    "plan cluster": (
        "tinylm plan cluster --gpus 8 --preset full --card a100 --tokens 1e9 --price 2",
        "tinylm plan cluster --gpus 1024 --parameters 175e9 --tensor-parallel 8 "
        "--pipeline-parallel 8 --batch 1536 --json",
    ),
    "plan lora": (
        "tinylm plan lora --shape 120x120 --reduction 15",
        "tinylm plan lora runs/quick --rank 4",
    ),
    "plan zero": (
        "tinylm plan zero --parameters 7e9 --gpus 8",
        "tinylm plan zero --preset baseline --gpus 4 --precision fp32 --json",
    ),
    "report": (
        "tinylm report --preset quick --name try --experiments data,training "
        "-o training.max_steps=20 -o data.train_stories=200 -o data.validation_stories=20",
        'tinylm report --run runs/quick --experiments training -o report.author="A. Student"',
    ),
    "handin": (
        "tinylm handin runs/quick --entry assignment-1",
        "tinylm handin runs/quick --entry assignment-1 --out runs/assignment-1.zip "
        "--checkpoint https://example.org/assignment-1.zip",
    ),
    "experiment": (
        "tinylm experiment --list",
        "tinylm experiment lab-svd --run runs/quick -o experiments.lab_svd.steps=20",
    ),
    "data": (
        "tinylm data --data letters --show 2 -o data.train_stories=1000",
        "tinylm data --preset quick -o data.train_stories=1000",
    ),
    "tokenizer train": (
        "tinylm tokenizer train --kind bpe --vocab-size 400 --data stories --out bpe.json "
        "-o data.train_stories=200",
        "tinylm tokenizer train --kind word --data stories --out word.json -o min_frequency=3 "
        "-o data.train_stories=200",
    ),
    "tokenizer": (
        "tinylm tokenizer encode bpe.json --file labelled.jsonl --tokens",
        "tinylm tokenizer export bpe.json --out hugging-face.json",
    ),
    "tokenizer encode": (
        "tinylm tokenizer encode bpe.json --file labelled.jsonl",
        "tinylm tokenizer encode bpe.json --file labelled.jsonl --tokens",
    ),
    "tokenizer decode": (
        "tinylm tokenizer decode bpe.json --file ids.txt",
        "tinylm tokenizer decode word.json --file ids.txt",
    ),
    "tokenizer probability": (
        'tinylm tokenizer probability runs/pieces "The dog"',
        "tinylm tokenizer probability runs/pieces unhelpful --begins --json",
    ),
    "tokenizer import": (
        "tinylm tokenizer import hugging-face.json --out again.json",
        "tinylm tokenizer import hugging-face.json --out third.json",
    ),
    "tokenizer export": (
        "tinylm tokenizer export bpe.json --out hugging-face.json",
        "tinylm tokenizer export again.json --out hugging-face-again.json",
    ),
    "config": (
        "tinylm config --preset quick",
        "tinylm config --preset baseline --data letters -o model.num_layers=6",
    ),
}
"""Command -> two calls, as they are typed."""


def help_of(name: str, command: Callable[..., Any] | None) -> dict[str, Any]:
    """Return the end of a command's help and its line in the list of commands, which is whole.

    Args:
        name: as it is typed, such as ``plan lora``.
        command: whose docstring begins with that line; None: it is written elsewhere.
    """
    lines = "\n".join(f"  {example}" for example in EXAMPLES[name])
    texts = {"epilog": f"\b\nExamples:\n{lines}"}
    if command is not None:
        texts["short_help"] = (inspect.getdoc(command) or "").partition("\n")[0]
    return texts


def complete(app: typer.Typer, name: str) -> dict[str, Any]:
    """Set the help of all commands of a group, and return that of the group itself."""
    for command in app.registered_commands:
        for key, text in help_of(f"{name} {command.name}", command.callback).items():
            setattr(command, key, text)
    callback = app.registered_callback
    if callback is not None:
        return help_of(name, callback.callback)
    return help_of(name, None) | {"short_help": str(app.info.help)}
