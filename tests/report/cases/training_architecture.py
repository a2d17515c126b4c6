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
    """So many parameters are in rows for words, in layers and in positions; all are trained."""

    def change(result: Result) -> None:
        counts = result["parameters"]
        counts.clear()
        counts.update(embedding=words - (0 if tied else 1), attention=inside - 1)
        counts["feed-forward"] = 1
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
        (None, "fig:architecture draws it with the sizes of this run."),
        (None, "The frame is repeated 3 times, each time with parameters of its own; seq is"),
        # Where the parameters are.
        (parameters(51, 49), "More than half of them, 51.0\u202f%, are rows for single words in"),
        (parameters(51, 49), "embedding and output; 49.0\u202f% belong to the layers."),
        (parameters(50, 50), "Of these 50.0\u202f% are rows for single words in embedding and"),
        (parameters(50, 50), "and output, and 50.0\u202f% belong to the layers.", "More than half"),
        (parameters(49, 51), "More than half of them, 51.0\u202f%, belong to the layers; 49.0"),
        (parameters(40, 35, 25), "Of these 40.0\u202f% are rows", "More than half"),
        (parameters(51, 49, tied=True), "More than half of them, 51.0\u202f%, are rows"),
        (None, "All of them are trained.", "frozen"),
        (frozen, "1,443,600 are frozen word vectors; the other 4,7", "All of them"),
        (parameters(60, 30, 10), "Positions\n64·300\n10"),
        (parameters(60, 30), "Positions\nnone\n0"),
        about="training",
    ),
    model("word of the vocabulary.", "fig:architecture", drawn=False),
    model("positions, 1 layer of masked self-attention", num_layers=1),
    model("The frame stands once; seq is the number of tokens read.", num_layers=1),
    model("hidden size 300, 1 layer, 8 heads of 38 and 1,200 inner feed-forward", num_layers=1),
    # How a token and its place enter.
    model("multiplied by sqrt(300) so that the positions do not drown it. Attention by itself"),
    model("row w of the embedding matrix. Attention", "multiplied", scale_embeddings=False),
    model("so a fixed pattern of waves, from short to long, is added for each position p"),
    model("A learned vector for each of the 64 positions is added", "waves", positions="learned"),
    model("multiplied by sqrt(300). Order enters inside the attention: queries and", "drown",
          positions="rotary"),
    model("of the head's own, from 0.5 to 0.0039 press2022, so that near", "drown",
          positions="alibi"),
    # Heads.
    model("Because 8 heads of 38 dimensions make 304 and not 300, the projections lead from 300"),
    model("the scores are divided by sqrt(38), the head's own dimension."),
    model("Because 1 head of 38 dimensions make 38", num_heads=1, head_dim=38),
    model("Each of the 10 heads has 30 dimensions, 300 in all.", "Because", num_heads=10),
    model("The head has 300 dimensions.", "heads has", num_heads=1),
    # The rest.
    model("as in the original (post-norm)", "pre-norm"),
    model("how this one trained is told in sec:training", "well enough"),
    model("with one more at the end (pre-norm)", "post-norm", norm_placement="pre"),
    model("through 1,200 inner units vaswani2017:"),
    model("through 1,200 inner units hendrycks2016:", activation="gelu"),
    model("inner units (in its tanh form) hendrycks2016:", activation="gelu-tanh"),
    model("with probability 0.1 acts on the embedding"),
    model("There is no dropout.", "probability", dropout=0.0),
    model("The output map has weights of its own", "is the embedding matrix itself"),
    model("The output map is the embedding matrix itself", "was not used", tie_embeddings=True),
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
