"""The works on other masks than the causal one that the report's prose can cite."""

from __future__ import annotations

from tinylm.report.reference import Reference

MASKS: dict[str, Reference] = {
    "liu2018": Reference(
        "P. J. Liu, M. Saleh, E. Pot, B. Goodrich, R. Sepassi, L. Kaiser and N. Shazeer",
        2018,
        "Generating Wikipedia by summarizing long sequences",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1801.10198",
    ),
    "raffel2020": Reference(
        "C. Raffel, N. Shazeer, A. Roberts, K. Lee, S. Narang, M. Matena, Y. Zhou, W. Li and "
        "P. J. Liu",
        2020,
        "Exploring the limits of transfer learning with a unified text-to-text Transformer",
        "Journal of Machine Learning Research 21(140), 1-67",
        "https://jmlr.org/papers/v21/20-074.html",
    ),
}
