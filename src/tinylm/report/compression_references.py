"""The works on pruning, quantization and distillation that can be cited."""

from __future__ import annotations

from tinylm.report.reference import Reference

COMPRESSION: dict[str, Reference] = {
    "han2015": Reference(
        "S. Han, J. Pool, J. Tran and W. Dally",
        2015,
        "Learning both weights and connections for efficient neural networks",
        "Advances in Neural Information Processing Systems 28",
        "https://arxiv.org/abs/1506.02626",
    ),
    "zhu2017": Reference(
        "M. Zhu and S. Gupta",
        2017,
        "To prune, or not to prune: exploring the efficacy of pruning for model compression",
        "arXiv:1710.01878",
        "https://arxiv.org/abs/1710.01878",
    ),
    "molchanov2019": Reference(
        "P. Molchanov, A. Mallya, S. Tyree, I. Frosio and J. Kautz",
        2019,
        "Importance estimation for neural network pruning",
        "Conference on Computer Vision and Pattern Recognition",
        "https://arxiv.org/abs/1906.10771",
    ),
    "jacob2018": Reference(
        "B. Jacob, S. Kligys, B. Chen, M. Zhu, M. Tang, A. Howard, H. Adam and D. Kalenichenko",
        2018,
        "Quantization and training of neural networks for efficient integer-arithmetic-only "
        "inference",
        "Conference on Computer Vision and Pattern Recognition",
        "https://arxiv.org/abs/1712.05877",
    ),
    "frankle2020": Reference(
        "J. Frankle, G. K. Dziugaite, D. M. Roy and M. Carbin",
        2020,
        "Linear mode connectivity and the lottery ticket hypothesis",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/1912.05671",
    ),
    "sun2024": Reference(
        "M. Sun, Z. Liu, A. Bair and J. Z. Kolter",
        2024,
        "A simple and effective pruning approach for large language models",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2306.11695",
    ),
    "frantar2023gptq": Reference(
        "E. Frantar, S. Ashkboos, T. Hoefler and D. Alistarh",
        2023,
        "GPTQ: accurate post-training quantization for generative pre-trained transformers",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2210.17323",
    ),
    "lin2024": Reference(
        "J. Lin, J. Tang, H. Tang, S. Yang, W.-M. Chen, W.-C. Wang, G. Xiao, X. Dang, C. Gan and "
        "S. Han",
        2024,
        "AWQ: activation-aware weight quantization for on-device LLM compression and acceleration",
        "Proceedings of Machine Learning and Systems 6",
        "https://arxiv.org/abs/2306.00978",
    ),
    "xiao2023": Reference(
        "G. Xiao, J. Lin, M. Seznec, H. Wu, J. Demouth and S. Han",
        2023,
        "SmoothQuant: accurate and efficient post-training quantization for large language models",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/2211.10438",
    ),
    "hinton2015": Reference(
        "G. Hinton, O. Vinyals and J. Dean",
        2015,
        "Distilling the knowledge in a neural network",
        "arXiv:1503.02531",
        "https://arxiv.org/abs/1503.02531",
    ),
    "kim2016": Reference(
        "Y. Kim and A. M. Rush",
        2016,
        "Sequence-level knowledge distillation",
        "Conference on Empirical Methods in Natural Language Processing",
        "https://arxiv.org/abs/1606.07947",
    ),
    "romero2015": Reference(
        "A. Romero, N. Ballas, S. E. Kahou, A. Chassang, C. Gatta and Y. Bengio",
        2015,
        "FitNets: hints for thin deep nets",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1412.6550",
    ),
    "jiao2020": Reference(
        "X. Jiao, Y. Yin, L. Shang, X. Jiang, X. Chen, L. Li, F. Wang and Q. Liu",
        2020,
        "TinyBERT: distilling BERT for natural language understanding",
        "Findings of the Association for Computational Linguistics: EMNLP",
        "https://arxiv.org/abs/1909.10351",
    ),
    "gu2024": Reference(
        "Y. Gu, L. Dong, F. Wei and M. Huang",
        2024,
        "MiniLLM: knowledge distillation of large language models",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2306.08543",
    ),
    "agarwal2024": Reference(
        "R. Agarwal, N. Vieillard, Y. Zhou, P. Stanczyk, S. Ramos, M. Geist and O. Bachem",
        2024,
        "On-policy distillation of language models: learning from self-generated mistakes",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2306.13649",
    ),
}
