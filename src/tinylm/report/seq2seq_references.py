"""The works on recurrent sequence-to-sequence models that the report's prose can cite."""

from __future__ import annotations

from tinylm.report.reference import Reference

SEQ2SEQ: dict[str, Reference] = {
    "schuster1997": Reference(
        "M. Schuster and K. K. Paliwal",
        1997,
        "Bidirectional recurrent neural networks",
        "IEEE Transactions on Signal Processing 45(11), 2673-2681",
        "https://doi.org/10.1109/78.650093",
    ),
    "sutskever2014": Reference(
        "I. Sutskever, O. Vinyals and Q. V. Le",
        2014,
        "Sequence to sequence learning with neural networks",
        "Advances in Neural Information Processing Systems 27, 3104-3112",
        "https://arxiv.org/abs/1409.3215",
    ),
    "bahdanau2015": Reference(
        "D. Bahdanau, K. Cho and Y. Bengio",
        2015,
        "Neural machine translation by jointly learning to align and translate",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1409.0473",
    ),
    "luong2015": Reference(
        "M.-T. Luong, H. Pham and C. D. Manning",
        2015,
        "Effective approaches to attention-based neural machine translation",
        "Conference on Empirical Methods in Natural Language Processing, 1412-1421",
        "https://arxiv.org/abs/1508.04025",
    ),
}
