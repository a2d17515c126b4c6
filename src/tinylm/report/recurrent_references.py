"""The works on recurrent networks that the report's prose can cite."""

from __future__ import annotations

from tinylm.report.reference import Reference

RECURRENT: dict[str, Reference] = {
    "elman1990": Reference(
        "J. L. Elman",
        1990,
        "Finding structure in time",
        "Cognitive Science 14(2), 179-211",
        "https://doi.org/10.1207/s15516709cog1402_1",
    ),
    "werbos1990": Reference(
        "P. J. Werbos",
        1990,
        "Backpropagation through time: what it does and how to do it",
        "Proceedings of the IEEE 78(10), 1550-1560",
        "https://doi.org/10.1109/5.58337",
    ),
    "bengio1994": Reference(
        "Y. Bengio, P. Simard and P. Frasconi",
        1994,
        "Learning long-term dependencies with gradient descent is difficult",
        "IEEE Transactions on Neural Networks 5(2), 157-166",
        "https://doi.org/10.1109/72.279181",
    ),
    "hochreiter1997": Reference(
        "S. Hochreiter and J. Schmidhuber",
        1997,
        "Long short-term memory",
        "Neural Computation 9(8), 1735-1780",
        "https://doi.org/10.1162/neco.1997.9.8.1735",
    ),
    "gers2000": Reference(
        "F. A. Gers, J. Schmidhuber and F. Cummins",
        2000,
        "Learning to forget: continual prediction with LSTM",
        "Neural Computation 12(10), 2451-2471",
        "https://doi.org/10.1162/089976600300015015",
    ),
    "mikolov2010": Reference(
        "T. Mikolov, M. Karafiát, L. Burget, J. Černocký and S. Khudanpur",
        2010,
        "Recurrent neural network based language model",
        "Interspeech, 1045-1048",
        "https://www.isca-archive.org/interspeech_2010/mikolov10_interspeech.html",
    ),
    "cho2014": Reference(
        "K. Cho, B. van Merriënboer, Ç. Gülçehre, D. Bahdanau, F. Bougares, H. Schwenk and "
        "Y. Bengio",
        2014,
        "Learning phrase representations using RNN encoder-decoder for statistical machine "
        "translation",
        "Conference on Empirical Methods in Natural Language Processing, 1724-1734",
        "https://arxiv.org/abs/1406.1078",
    ),
    "zaremba2014": Reference(
        "W. Zaremba, I. Sutskever and O. Vinyals",
        2014,
        "Recurrent neural network regularization",
        "arXiv:1409.2329",
        "https://arxiv.org/abs/1409.2329",
    ),
}
