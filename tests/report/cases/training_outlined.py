"""What is said of a model that describes itself: a recurrent one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Case

Result = dict[str, Any]


def counted(words: int, layers: int, trained: int | None = None) -> Callable[[Result], None]:
    """So many parameters are in embedding and unembedding, and so many in the layers."""

    def change(result: Result) -> None:
        total = words + layers
        result["parameters"] = {"embedding": words, "input": layers, "recurrent": 0,
                                "unembedding": 0, "total": total}  # fmt: skip
        result["parameters_trained"] = total if trained is None else trained

    return change


def model(said: str, unsaid: str = "", drawn: bool = True, **settings: Any) -> Case:
    return Case("architecture", said, counted(900_000, 100_000), "training", unsaid=unsaid,
                drawn=drawn, settings={"model": {"kind": "gru"} | settings})  # fmt: skip


def in_parts(result: Result) -> None:
    """The parts of a model with an encoder."""
    parts = dict.fromkeys(("embedding", "encoder", "decoder", "attention", "unembedding"), 100)
    result["parameters"] = parts | {"total": 500}
    result["parameters_trained"] = 500


def sourced(said: str, unsaid: str = "", additive: bool = True, **settings: Any) -> Case:
    kind = "seq2seq-additive" if additive else "seq2seq-multiplicative"
    return Case("architecture", said, in_parts, "training", unsaid=unsaid, drawn=True,
                settings={"model": {"kind": kind} | settings})  # fmt: skip


CASES = [
    sourced("Each blue frame is repeated 3 times"),
    sourced("Each blue frame stands once", num_layers=1),
    sourced("The orange arrow is the memory, which the attention reads at each step. Its context"),
    sourced("at each step. Nothing goes from it into the next step.", additive=False),
    sourced("reads the source from both ends schuster1997 with a GRU of its own for each, 150 and"),
    sourced("The encoder reads from left to right", "from both ends", additive=False),
    sourced("with attention bahdanau2015. An encoder of 3 layers"),
    sourced("with attention luong2015. An encoder of 1 layer reads", additive=False, num_layers=1),
    sourced("There is no dropout.", "with probability", dropout=0.0),
    sourced("on the output of each layer, never from one step to the next zaremba2014."),
    sourced("The unembedding is the embedding matrix itself", tie_embeddings=True),
    sourced("Attention\n2·300·300 + 300 + 300·900 + 300 + 3·300·300 + 300"),
    sourced("Attention\n300·300 + 2·300·300 + 300", additive=False),
    sourced("Encoder\n3·(300·900 + 150·450 + 150·450)", bias=False),
    model("a state of 300 numbers in each of 3 layers, however long"),
    model("a state of 600 numbers in each of 3 layers", kind="lstm"),
    model("in each of 1 layer, however long", num_layers=1),
    model("fig:architecture shows it with the sizes of this run."),
    model("a score for each token of the vocabulary.", "fig:architecture", drawn=False),
    model("The blue frame is repeated 3 times, each time with its own parameters; an arrow"),
    model("The blue frame stands once; an arrow", num_layers=1),
    model("row w of the embedding matrix, multiplied by sqrt(300). There is no"),
    model("row w of the embedding matrix. There", scale_embeddings=False),
    model("with probability 0.1 acts on the embedding", "There is no dropout"),
    model("There is no dropout.", "probability 0", dropout=0.0),
    model("A gated recurrent unit cho2014 decides"),
    model("A simple recurrent network adds", kind="rnn"),
    model("A linear recurrent network is", kind="linear-rnn"),
    model("The unembedding has weights of its own.", "matrix itself"),
    model("The unembedding is the embedding matrix itself", tie_embeddings=True),
    model("Unembedding\nthe embedding's", tie_embeddings=True),
    model("Input\n3·(300·900 + 900)"),
    model("Recurrent\n3·(300·900 + 900)"),
    model("Recurrent\n3·(300·1,200)", kind="lstm"),
    model("Input\n3·(300·900)", bias=False),
    model("Unembedding\n300·3,000 + 3,000"),
    model("for a vocabulary of 3,000, hidden size 300 and 3 layers"),
    model("Of these 90.0\u202f% are in embedding and unembedding, 10.0\u202f% in the layers."),
    model("All of them are trained."),
    Case("architecture", "1,000 are frozen word vectors; the other 999,000 are trained.",
         counted(900_000, 100_000, 999_000), "training", settings={"model": {"kind": "gru"}}),
]  # fmt: skip
