"""What was asked, and where the report answers it."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Bullets, Equation, Heading, Paragraph
from tinylm.report.formatting import plural


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section; it needs no experiment, and names only what the report contains."""
    model, done = results.config.model, results.results
    asked = [
        ("data", "*Data.* Choose a corpus of short stories, turn it into tokens, hold out a "
         "validation split, and start from word vectors where they help ([[sec:data]])."),
        ("training", f"*Model.* Build a decoder-only Transformer [[vaswani2017]] of "
         f"{plural(model.num_layers, 'layer')} with {plural(model.num_heads, 'attention head')} "
         "each, from linear maps, embeddings and tensor operations only; no ready-made "
         "Transformer, attention or normalisation module is used ([[sec:architecture]])."),
        ("training", "*Training.* Train it to predict the next token and follow the loss on "
         "the training and the validation split ([[sec:training]])."),
        ("evaluation", "*Evaluation.* Measure perplexity, BLEU and diversity of continuations of "
         "stories that the model has not seen ([[sec:evaluation]])."),
        ("samples", "*Generation.* Let it write with several decoding settings and judge the text "
         "by numbers ([[sec:samples]])."),
        ("attention", "*Interpretation.* Show where every attention head looks and what follows "
         "from it ([[sec:attention]])."),
    ]  # fmt: skip
    return [
        Heading(1, "The task", "sec:task"),
        Paragraph(
            "A language model gives every text a probability by predicting each token from those "
            "before it:"
        ),
        Equation("p_theta (w_1, dots, w_n) = product_(t=1)^n p_theta (w_t | w_1, dots, w_(t-1))"),
        Paragraph(
            "Here $w_t$ is a token (a word or a punctuation mark) and $theta$ the model's "
            "parameters. A model that predicts well can also write: it draws a token from its "
            "own prediction, appends it and goes on. The assignment is to build such a model "
            "from its basic parts, to train it on short stories, to measure it and to explain "
            "what it has learned. In detail:"
        ),
        Bullets(
            (
                *(text for name, text in asked if name in done),
                "*Reproduction.* Leave everything that is needed to repeat the work "
                "([[sec:reproduction]]).",
            )
        ),
        Paragraph(
            "Every number, figure and comparison below is computed from the result files of this "
            "run when the report is made. An experiment that was not run has no section."
        ),
    ]
