"""The works that compare families of language models that the report's prose can cite."""

from __future__ import annotations

from tinylm.report.reference import Reference

FAMILIES: dict[str, Reference] = {
    "wang2022": Reference(
        "T. Wang, A. Roberts, D. Hesslow, T. Le Scao, H. W. Chung, I. Beltagy, J. Launay and "
        "C. Raffel",
        2022,
        "What language model architecture and pretraining objective works best for zero-shot "
        "generalization?",
        "International Conference on Machine Learning",
        "https://proceedings.mlr.press/v162/wang22u.html",
    ),
    "tay2023": Reference(
        "Y. Tay, M. Dehghani, V. Q. Tran, X. Garcia, J. Wei, X. Wang, H. W. Chung, D. Bahri, "
        "T. Schuster, H. S. Zheng, D. Zhou, N. Houlsby and D. Metzler",
        2023,
        "UL2: Unifying language learning paradigms",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2205.05131",
    ),
}
