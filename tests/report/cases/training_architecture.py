"""What is said of the model: its parts as they were set, and where its parameters are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, table_of

Result = dict[str, Any]


def model(said: str, unsaid: str = "", drawn: bool = True, **settings: Any) -> Case:
    """What is said of a model with these settings."""
    return Case("architecture", said, unsaid=unsaid, about="training", drawn=drawn,
                settings={"model": settings})  # fmt: skip


def parameters(
    words: int, inside: int, positions: int = 0, tied: bool = False
) -> Callable[[Result], None]:
    """So many are in embedding and unembedding, in layers and in positions; all are trained."""

    def change(result: Result) -> None:
        counts = result["parameters"]
        counts.clear()
        counts.update(embedding=words - (0 if tied else 1), attention=inside - 13)
        counts["feed-forward"] = 1
        counts["norms"] = 12
        counts["positions"] = positions
        if not tied:
            counts["unembedding"] = 1
        counts["total"] = result["parameters_trained"] = words + inside + positions

    return change


def frozen(result: Result) -> None:
    result["parameters_trained"] -= 1_443_600


CASES = [
    Case("architecture", "", lambda results: results.pop("training"), about="*"),
    *table_of(
        "architecture",
        (None, "positions, 3 layers of masked self-attention"),
        (None, "fig:architecture shows it with the sizes of this run."),
        (None, "The blue frame is repeated 3 times, each time with its own parameters; seq is"),
        # Where the parameters are.
        (parameters(51, 49), "More than half of them, 51.0\u202f%, are in the embedding and the"),
        (parameters(51, 49), "embedding and the unembedding; 49.0\u202f% are in the layers."),
        (parameters(50, 50), "Of these 50.0\u202f% are in the embedding and the unembedding, and "
         "50.0\u202f% are in the layers.", "More than half"),
        (parameters(49, 51), "More than half of them, 51.0\u202f%, are in the layers; 49.0"),
        (parameters(40, 35, 25), "Of these 40.0\u202f% are in the embedding", "More than half"),
        (None, "All of them are trained.", "frozen"),
        (frozen, "1,443,600 are frozen word vectors; the other 4,7", "All of them"),
        (parameters(60, 30, 10), "Positions\n64·300\n10"),
        (parameters(60, 30), "Positions\nnone\n0"),
        about="training",
    ),
    # Of 14 parameters of 7 norms, 12 are in the 3 layers.
    *table_of(
        "architecture",
        (lambda result: [parameters(50, 50)(result), result["parameters"].update(norms=14)],
         "in the embedding and the unembedding, and 50.0\u202f% are in the layers."),
        about="training",
        settings={"model": {"norm_placement": "pre"}},
    ),
    *table_of(
        "architecture",
        (parameters(51, 49, tied=True), "are in the embedding, which is the unembedding as well"),
        about="training",
        settings={"model": {"tie_embeddings": True}},
    ),
    model("each of them sees all of the source", kind="prefix-lm"),
    model("positions, 3 layers of masked self-attention", "Figure", drawn=False),
    model("token of the vocabulary.", "fig:architecture", drawn=False),
    model("positions, 1 layer of masked self-attention", num_layers=1),
    model("The blue frame stands once; seq is the number of tokens read.", num_layers=1),
    model("hidden size 300, 1 layer, 8 heads of 38 and 1,200 inner feed-forward", num_layers=1),
    # How a token and its place enter.
    model("multiplied by sqrt(300), so that its entries are not small beside those of the posi"),
    model("row w of the embedding matrix. Attention", "multiplied", scale_embeddings=False),
    model("so a fixed encoding of sine and cosine waves with increasing wavelengths is added"),
    model("A learned vector for each of the 64 positions is added", "waves", positions="learned"),
    model("multiplied by sqrt(300). The order of the tokens enters in the", "are not small",
          positions="rotary"),
    model("a slope that differs by head, from 0.5 to 0.0039 press2022", "drown",
          positions="alibi"),
    # Heads.
    model("Because 8 heads of 38 dimensions make 304 and not 300, the projections lead from 300"),
    model("the scores are divided by sqrt(38), the head's own dimension."),
    model("Because 1 head of 38 dimensions make 38", num_heads=1, head_dim=38),
    model("Each of the 10 heads has 30 dimensions, 300 in all.", "Because", num_heads=10),
    model("The head has 300 dimensions.", "heads has", num_heads=1),
    # The rest.
    model("as in the original (post-norm)", "pre-norm"),
    model("Deep post-norm models need a warm-up of the learning rate", "pre-norm"),
    model("with one more at the end (pre-norm)", "post-norm", norm_placement="pre"),
    model("through 1,200 inner units vaswani2017:"),
    model("through 1,200 inner units hendrycks2016:", activation="gelu"),
    model("inner units (in its tanh form) hendrycks2016:", activation="gelu-tanh"),
    model("with probability 0.1 acts on the embedding"),
    model("There is no dropout.", "probability", dropout=0.0),
    model("The unembedding has weights of its own", "is the embedding matrix itself"),
    model("The unembedding is the embedding matrix itself", "not tied", tie_embeddings=True),
    model("Unembedding\nthe embedding's", tie_embeddings=True),
    # The table.
    model("4,812·300\n1,443,600"),
    model("3·(300·3·304 + 304·300 + 3·304 + 300)"),
    model("3·(300·3·304 + 304·300)\n", bias=False),
    model("Norms\n6·2·300"),
    model("Norms\n6·300", bias=False),
    model("Norms\n7·2·300", norm_placement="pre"),
    model("for a vocabulary of 4,812", vocab_size=None),
]  # fmt: skip
