"""The works on tokens and how text is cut into them that the report's prose can cite."""

from __future__ import annotations

from tinylm.report.reference import Reference

TOKENIZATION: dict[str, Reference] = {
    "sennrich2016": Reference(
        "R. Sennrich, B. Haddow and A. Birch",
        2016,
        "Neural machine translation of rare words with subword units",
        "Annual Meeting of the Association for Computational Linguistics",
        "https://aclanthology.org/P16-1162",
    ),
    "kudo2018": Reference(
        "T. Kudo",
        2018,
        "Subword regularization: improving neural network translation models with multiple "
        "subword candidates",
        "Annual Meeting of the Association for Computational Linguistics",
        "https://aclanthology.org/P18-1007",
    ),
    "schuster2012": Reference(
        "M. Schuster and K. Nakajima",
        2012,
        "Japanese and Korean voice search",
        "IEEE International Conference on Acoustics, Speech and Signal Processing",
        "https://doi.org/10.1109/ICASSP.2012.6289079",
    ),
    "devlin2019": Reference(
        "J. Devlin, M.-W. Chang, K. Lee and K. Toutanova",
        2019,
        "BERT: pre-training of deep bidirectional transformers for language understanding",
        "Conference of the North American Chapter of the Association for Computational Linguistics",
        "https://aclanthology.org/N19-1423",
    ),
    "radford2019": Reference(
        "A. Radford, J. Wu, R. Child, D. Luan, D. Amodei and I. Sutskever",
        2019,
        "Language models are unsupervised multitask learners",
        "OpenAI technical report",
        "https://cdn.openai.com/better-language-models/"
        "language_models_are_unsupervised_multitask_learners.pdf",
    ),
    "cao2021": Reference(
        "K. Cao and L. Rimell",
        2021,
        "You should evaluate your language model on marginal likelihood over tokenisations",
        "Conference on Empirical Methods in Natural Language Processing",
        "https://aclanthology.org/2021.emnlp-main.161",
    ),
    "chirkova2023": Reference(
        "N. Chirkova, G. Kruszewski, J. Rozen and M. Dymetman",
        2023,
        "Should you marginalize over possible tokenizations?",
        "Annual Meeting of the Association for Computational Linguistics",
        "https://aclanthology.org/2023.acl-short.1",
    ),
    "gao2020": Reference(
        "L. Gao, S. Biderman, S. Black and others",
        2020,
        "The Pile: an 800GB dataset of diverse text for language modeling",
        "arXiv",
        "https://arxiv.org/abs/2101.00027",
    ),
    "witten1991": Reference(
        "I. H. Witten and T. C. Bell",
        1991,
        "The zero-frequency problem: estimating the probabilities of novel events in adaptive text "
        "compression",
        "IEEE Transactions on Information Theory 37(4)",
        "https://doi.org/10.1109/18.87000",
    ),
}
