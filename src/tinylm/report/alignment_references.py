"""The works on rewards, preferences and policy gradients that can be cited."""

from __future__ import annotations

from tinylm.report.reference import Reference

ALIGNMENT: dict[str, Reference] = {
    "williams1992": Reference(
        "R. J. Williams",
        1992,
        "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
        "Machine Learning 8",
        "https://doi.org/10.1007/BF00992696",
    ),
    "bradley1952": Reference(
        "R. A. Bradley and M. E. Terry",
        1952,
        "Rank analysis of incomplete block designs: I. The method of paired comparisons",
        "Biometrika 39",
        "https://doi.org/10.2307/2334029",
    ),
    "plackett1975": Reference(
        "R. L. Plackett",
        1975,
        "The analysis of permutations",
        "Journal of the Royal Statistical Society, series C, 24",
        "https://doi.org/10.2307/2346567",
    ),
    "rao1967": Reference(
        "P. V. Rao and L. L. Kupper",
        1967,
        "Ties in paired-comparison experiments: a generalization of the Bradley-Terry model",
        "Journal of the American Statistical Association 62",
        "https://doi.org/10.1080/01621459.1967.10482901",
    ),
    "davidson1970": Reference(
        "R. R. Davidson",
        1970,
        "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments",
        "Journal of the American Statistical Association 65",
        "https://doi.org/10.1080/01621459.1970.10481082",
    ),
    "sutton1988": Reference(
        "R. S. Sutton",
        1988,
        "Learning to predict by the methods of temporal differences",
        "Machine Learning 3",
        "https://doi.org/10.1007/BF00115009",
    ),
    "schulman2016": Reference(
        "J. Schulman, P. Moritz, S. Levine, M. I. Jordan and P. Abbeel",
        2016,
        "High-dimensional continuous control using generalized advantage estimation",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1506.02438",
    ),
    "schulman2017": Reference(
        "J. Schulman, F. Wolski, P. Dhariwal, A. Radford and O. Klimov",
        2017,
        "Proximal policy optimization algorithms",
        "arXiv:1707.06347",
        "https://arxiv.org/abs/1707.06347",
    ),
    "ziegler2019": Reference(
        "D. M. Ziegler, N. Stiennon, J. Wu, T. B. Brown, A. Radford, D. Amodei, P. "
        "Christiano and G. Irving",
        2019,
        "Fine-tuning language models from human preferences",
        "arXiv:1909.08593",
        "https://arxiv.org/abs/1909.08593",
    ),
    "kool2019": Reference(
        "W. Kool, H. van Hoof and M. Welling",
        2019,
        "Buy 4 REINFORCE samples, get a baseline for free!",
        "Deep Reinforcement Learning Meets Structured Prediction workshop",
        "https://openreview.net/forum?id=r1lgTGL5DE",
    ),
    "ahmadian2024": Reference(
        "A. Ahmadian, C. Cremer, M. Gallé, M. Fadaee, J. Kreutzer, O. Pietquin, A. Üstün "
        "and S. Hooker",
        2024,
        "Back to basics: revisiting REINFORCE-style optimization for learning from human "
        "feedback in LLMs",
        "Annual Meeting of the Association for Computational Linguistics",
        "https://arxiv.org/abs/2402.14740",
    ),
    "ouyang2022": Reference(
        "L. Ouyang, J. Wu, X. Jiang, D. Almeida, C. L. Wainwright, P. Mishkin, C. Zhang, "
        "S. Agarwal, K. Slama, A. Ray, J. Schulman, J. Hilton, F. Kelton, L. Miller, M. "
        "Simens, A. Askell, P. Welinder, P. Christiano, J. Leike and R. Lowe",
        2022,
        "Training language models to follow instructions with human feedback",
        "Advances in Neural Information Processing Systems 35",
        "https://arxiv.org/abs/2203.02155",
    ),
    "gao2023": Reference(
        "L. Gao, J. Schulman and J. Hilton",
        2023,
        "Scaling laws for reward model overoptimization",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/2210.10760",
    ),
    "huang2024": Reference(
        "S. Huang, M. Noukhovitch, A. Hosseini, K. Rasul, W. Wang and L. Tunstall",
        2024,
        "The N+ implementation details of RLHF with PPO: a case study on TL;DR summarization",
        "Conference on Language Modeling",
        "https://arxiv.org/abs/2403.17031",
    ),
    "shao2024": Reference(
        "Z. Shao, P. Wang, Q. Zhu, R. Xu, J. Song, X. Bi, H. Zhang, M. Zhang, Y. K. Li, "
        "Y. Wu and D. Guo",
        2024,
        "DeepSeekMath: pushing the limits of mathematical reasoning in open language models",
        "arXiv:2402.03300",
        "https://arxiv.org/abs/2402.03300",
    ),
    "liu2025": Reference(
        "Z. Liu, C. Chen, W. Li, P. Qi, T. Pang, C. Du, W. S. Lee and M. Lin",
        2025,
        "Understanding R1-Zero-like training: a critical perspective",
        "Conference on Language Modeling",
        "https://arxiv.org/abs/2503.20783",
    ),
    "yu2025": Reference(
        "Q. Yu, Z. Zhang, R. Zhu, Y. Yuan, X. Zuo, Y. Yue and others",
        2025,
        "DAPO: an open-source LLM reinforcement learning system at scale",
        "arXiv:2503.14476",
        "https://arxiv.org/abs/2503.14476",
    ),
    "rafailov2023": Reference(
        "R. Rafailov, A. Sharma, E. Mitchell, S. Ermon, C. D. Manning and C. Finn",
        2023,
        "Direct preference optimization: your language model is secretly a reward model",
        "Advances in Neural Information Processing Systems 36",
        "https://arxiv.org/abs/2305.18290",
    ),
    "azar2024": Reference(
        "M. G. Azar, Z. D. Guo, B. Piot, R. Munos, M. Rowland, M. Valko and D. Calandriello",
        2024,
        "A general theoretical paradigm to understand learning from human preferences",
        "International Conference on Artificial Intelligence and Statistics",
        "https://arxiv.org/abs/2310.12036",
    ),
    "ethayarajh2024": Reference(
        "K. Ethayarajh, W. Xu, N. Muennighoff, D. Jurafsky and D. Kiela",
        2024,
        "KTO: model alignment as prospect theoretic optimization",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/2402.01306",
    ),
    "meng2024": Reference(
        "Y. Meng, M. Xia and D. Chen",
        2024,
        "SimPO: simple preference optimization with a reference-free reward",
        "Advances in Neural Information Processing Systems 37",
        "https://arxiv.org/abs/2405.14734",
    ),
    "mitchell2023": Reference(
        "E. Mitchell",
        2023,
        "A note on DPO with noisy preferences and relationship to IPO",
        "Note",
        "https://ericmitchell.ai/cdpo.pdf",
    ),
    "chowdhury2024": Reference(
        "S. Ray Chowdhury, A. Kini and N. Natarajan",
        2024,
        "Provably robust DPO: aligning language models with noisy feedback",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/2403.00409",
    ),
    "schulman2020": Reference(
        "J. Schulman",
        2020,
        "Approximating KL divergence",
        "Blog post",
        "http://joschu.net/blog/kl-approx.html",
    ),
    "beirami2024": Reference(
        "A. Beirami, A. Agarwal, J. Berant, A. D'Amour, J. Eisenstein, C. Nagpal and A. T. Suresh",
        2024,
        "Theoretical guarantees on the best-of-n alignment policy",
        "arXiv:2401.01879",
        "https://arxiv.org/abs/2401.01879",
    ),
    "lin2004": Reference(
        "C.-Y. Lin",
        2004,
        "ROUGE: a package for automatic evaluation of summaries",
        "Text Summarization Branches Out workshop",
        "https://aclanthology.org/W04-1013",
    ),
    "wang2023b": Reference(
        "Y. Wang, Y. Kordi, S. Mishra, A. Liu, N. A. Smith, D. Khashabi and H. Hajishirzi",
        2023,
        "Self-Instruct: aligning language models with self-generated instructions",
        "Annual Meeting of the Association for Computational Linguistics",
        "https://arxiv.org/abs/2212.10560",
    ),
    "korbak2022": Reference(
        "T. Korbak, E. Perez and C. Buckley",
        2022,
        "RL with KL penalties is better viewed as Bayesian inference",
        "Findings of the Association for Computational Linguistics: EMNLP",
        "https://arxiv.org/abs/2205.11275",
    ),
}
