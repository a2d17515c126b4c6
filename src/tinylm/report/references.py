"""The works that the report's prose can cite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One entry of the list of references."""

    authors: str
    year: int
    title: str
    venue: str
    link: str

    def __str__(self) -> str:
        return f"{self.authors} ({self.year}). {self.title}{self.stop} {self.venue}."

    @property
    def stop(self) -> str:
        """What ends the title: a full stop, unless it ends with a mark of its own."""
        return "" if self.title[-1:] in "?!" else "."

    @property
    def is_address(self) -> bool:
        """Whether the venue is the address of the work itself, which is then not printed twice."""
        return self.venue.startswith("arXiv:")


REFERENCES: dict[str, Reference] = {
    "vaswani2017": Reference(
        "A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. N. Gomez, Ł. Kaiser and "
        "I. Polosukhin",
        2017,
        "Attention is all you need",
        "Advances in Neural Information Processing Systems 30",
        "https://arxiv.org/abs/1706.03762",
    ),
    "ba2016": Reference(
        "J. L. Ba, J. R. Kiros and G. E. Hinton",
        2016,
        "Layer normalization",
        "arXiv:1607.06450",
        "https://arxiv.org/abs/1607.06450",
    ),
    "xiong2020": Reference(
        "R. Xiong, Y. Yang, D. He, K. Zheng, S. Zheng, C. Xing, H. Zhang, Y. Lan, L. Wang and "
        "T.-Y. Liu",
        2020,
        "On layer normalization in the Transformer architecture",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/2002.04745",
    ),
    "su2021": Reference(
        "J. Su, Y. Lu, S. Pan, A. Murtadha, B. Wen and Y. Liu",
        2021,
        "RoFormer: enhanced Transformer with rotary position embedding",
        "arXiv:2104.09864",
        "https://arxiv.org/abs/2104.09864",
    ),
    "press2022": Reference(
        "O. Press, N. A. Smith and M. Lewis",
        2022,
        "Train short, test long: attention with linear biases enables input length extrapolation",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2108.12409",
    ),
    "radford2019": Reference(
        "A. Radford, J. Wu, R. Child, D. Luan, D. Amodei and I. Sutskever",
        2019,
        "Language models are unsupervised multitask learners",
        "OpenAI technical report",
        "https://cdn.openai.com/better-language-models/"
        "language_models_are_unsupervised_multitask_learners.pdf",
    ),
    "elfwing2018": Reference(
        "S. Elfwing, E. Uchibe and K. Doya",
        2018,
        "Sigmoid-weighted linear units for neural network function approximation in reinforcement "
        "learning",
        "Neural Networks 107, 3-11",
        "https://arxiv.org/abs/1702.03118",
    ),
    "hendrycks2016": Reference(
        "D. Hendrycks and K. Gimpel",
        2016,
        "Gaussian error linear units (GELUs)",
        "arXiv:1606.08415",
        "https://arxiv.org/abs/1606.08415",
    ),
    "srivastava2014": Reference(
        "N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov",
        2014,
        "Dropout: a simple way to prevent neural networks from overfitting",
        "Journal of Machine Learning Research 15",
        "https://jmlr.org/papers/v15/srivastava14a.html",
    ),
    "press2017": Reference(
        "O. Press and L. Wolf",
        2017,
        "Using the output embedding to improve language models",
        "European Chapter of the Association for Computational Linguistics",
        "https://arxiv.org/abs/1608.05859",
    ),
    "kingma2015": Reference(
        "D. P. Kingma and J. Ba",
        2015,
        "Adam: a method for stochastic optimization",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1412.6980",
    ),
    "loshchilov2019": Reference(
        "I. Loshchilov and F. Hutter",
        2019,
        "Decoupled weight decay regularization",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1711.05101",
    ),
    "pascanu2013": Reference(
        "R. Pascanu, T. Mikolov and Y. Bengio",
        2013,
        "On the difficulty of training recurrent neural networks",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/1211.5063",
    ),
    "bojanowski2017": Reference(
        "P. Bojanowski, E. Grave, A. Joulin and T. Mikolov",
        2017,
        "Enriching word vectors with subword information",
        "Transactions of the Association for Computational Linguistics 5",
        "https://arxiv.org/abs/1607.04606",
    ),
    "eldan2023": Reference(
        "R. Eldan and Y. Li",
        2023,
        "TinyStories: how small can language models be and still speak coherent English?",
        "arXiv:2305.07759",
        "https://arxiv.org/abs/2305.07759",
    ),
    "zipf1949": Reference(
        "G. K. Zipf",
        1949,
        "Human behavior and the principle of least effort",
        "Addison-Wesley",
        "",
    ),
    "williams1989": Reference(
        "R. J. Williams and D. Zipser",
        1989,
        "A learning algorithm for continually running fully recurrent neural networks",
        "Neural Computation 1(2)",
        "https://doi.org/10.1162/neco.1989.1.2.270",
    ),
    "jelinek1977": Reference(
        "F. Jelinek, R. L. Mercer, L. R. Bahl and J. K. Baker",
        1977,
        "Perplexity: a measure of the difficulty of speech recognition tasks",
        "Journal of the Acoustical Society of America 62(S1)",
        "https://doi.org/10.1121/1.2016299",
    ),
    "papineni2002": Reference(
        "K. Papineni, S. Roukos, T. Ward and W.-J. Zhu",
        2002,
        "BLEU: a method for automatic evaluation of machine translation",
        "Association for Computational Linguistics",
        "https://aclanthology.org/P02-1040",
    ),
    "post2018": Reference(
        "M. Post",
        2018,
        "A call for clarity in reporting BLEU scores",
        "Conference on Machine Translation",
        "https://aclanthology.org/W18-6319",
    ),
    "li2016": Reference(
        "J. Li, M. Galley, C. Brockett, J. Gao and B. Dolan",
        2016,
        "A diversity-promoting objective function for neural conversation models",
        "North American Chapter of the Association for Computational Linguistics",
        "https://arxiv.org/abs/1510.03055",
    ),
    "holtzman2020": Reference(
        "A. Holtzman, J. Buys, L. Du, M. Forbes and Y. Choi",
        2020,
        "The curious case of neural text degeneration",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1904.09751",
    ),
    "clark2019": Reference(
        "K. Clark, U. Khandelwal, O. Levy and C. D. Manning",
        2019,
        "What does BERT look at? An analysis of BERT's attention",
        "BlackboxNLP workshop",
        "https://arxiv.org/abs/1906.04341",
    ),
    "michel2019": Reference(
        "P. Michel, O. Levy and G. Neubig",
        2019,
        "Are sixteen heads really better than one?",
        "Advances in Neural Information Processing Systems 32",
        "https://arxiv.org/abs/1905.10650",
    ),
    "vig2020": Reference(
        "J. Vig, S. Gehrmann, Y. Belinkov, S. Qian, D. Nevo, Y. Singer and S. Shieber",
        2020,
        "Investigating gender bias in language models using causal mediation analysis",
        "Advances in Neural Information Processing Systems 33",
        "https://arxiv.org/abs/2004.12265",
    ),
    "wang2023": Reference(
        "K. Wang, A. Variengien, A. Conmy, B. Shlegeris and J. Steinhardt",
        2023,
        "Interpretability in the wild: a circuit for indirect object identification in GPT-2 small",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2211.00593",
    ),
    "nanda2023": Reference(
        "N. Nanda",
        2023,
        "Attribution patching: activation patching at industrial scale",
        "Technical note",
        "https://www.neelnanda.io/mechanistic-interpretability/attribution-patching",
    ),
    "heimersheim2024": Reference(
        "S. Heimersheim and N. Nanda",
        2024,
        "How to use and interpret activation patching",
        "arXiv:2404.15255",
        "https://arxiv.org/abs/2404.15255",
    ),
    "jain2019": Reference(
        "S. Jain and B. C. Wallace",
        2019,
        "Attention is not explanation",
        "North American Chapter of the Association for Computational Linguistics",
        "https://arxiv.org/abs/1902.10186",
    ),
    "nostalgebraist2020": Reference(
        "nostalgebraist",
        2020,
        "Interpreting GPT: the logit lens",
        "LessWrong",
        "https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens",
    ),
    "belrose2023": Reference(
        "N. Belrose, Z. Furman, L. Smith, D. Halawi, I. Ostrovsky, L. McKinney, S. Biderman and "
        "J. Steinhardt",
        2023,
        "Eliciting latent predictions from Transformers with the tuned lens",
        "arXiv:2303.08112",
        "https://arxiv.org/abs/2303.08112",
    ),
    "elhage2021": Reference(
        "N. Elhage, N. Nanda, C. Olsson and others",
        2021,
        "A mathematical framework for Transformer circuits",
        "Transformer Circuits Thread",
        "https://transformer-circuits.pub/2021/framework/index.html",
    ),
    "chowdhery2022": Reference(
        "A. Chowdhery, S. Narang, J. Devlin, et al.",
        2022,
        "PaLM: scaling language modeling with pathways",
        "arXiv:2204.02311",
        "https://arxiv.org/abs/2204.02311",
    ),
    "korthikanti2022": Reference(
        "V. Korthikanti, J. Casper, S. Lym, L. McAfee, M. Andersch, M. Shoeybi and B. Catanzaro",
        2022,
        "Reducing activation recomputation in large Transformer models",
        "arXiv:2205.05198",
        "https://arxiv.org/abs/2205.05198",
    ),
    "micikevicius2018": Reference(
        "P. Micikevicius, S. Narang, J. Alben, G. Diamos, E. Elsen, D. Garcia, B. Ginsburg, "
        "M. Houston, O. Kuchaiev, G. Venkatesh and H. Wu",
        2018,
        "Mixed precision training",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1710.03740",
    ),
    "pope2022": Reference(
        "R. Pope, S. Douglas, A. Chowdhery, J. Devlin, J. Bradbury, A. Levskaya, J. Heek, K. Xiao, "
        "S. Agrawal and J. Dean",
        2022,
        "Efficiently scaling Transformer inference",
        "arXiv:2211.05102",
        "https://arxiv.org/abs/2211.05102",
    ),
    "wu2016": Reference(
        "Y. Wu, M. Schuster, Z. Chen, Q. V. Le, M. Norouzi et al.",
        2016,
        "Google's neural machine translation system: bridging the gap between human and machine "
        "translation",
        "arXiv:1609.08144",
        "https://arxiv.org/abs/1609.08144",
    ),
    "ott2018": Reference(
        "M. Ott, S. Edunov, D. Grangier and M. Auli",
        2018,
        "Scaling neural machine translation",
        "Conference on Machine Translation",
        "https://arxiv.org/abs/1806.00187",
    ),
    "chen2016": Reference(
        "T. Chen, B. Xu, C. Zhang and C. Guestrin",
        2016,
        "Training deep nets with sublinear memory cost",
        "arXiv:1604.06174",
        "https://arxiv.org/abs/1604.06174",
    ),
    "eckart1936": Reference(
        "C. Eckart and G. Young",
        1936,
        "The approximation of one matrix by another of lower rank",
        "Psychometrika 1(3)",
        "https://doi.org/10.1007/BF02288367",
    ),
    "mirsky1960": Reference(
        "L. Mirsky",
        1960,
        "Symmetric gauge functions and unitarily invariant norms",
        "Quarterly Journal of Mathematics 11(1)",
        "https://doi.org/10.1093/qmath/11.1.50",
    ),
    "roy2007": Reference(
        "O. Roy and M. Vetterli",
        2007,
        "The effective rank: a measure of effective dimensionality",
        "European Signal Processing Conference",
        "https://ieeexplore.ieee.org/document/7098875",
    ),
    "hu2022": Reference(
        "E. J. Hu, Y. Shen, P. Wallis, Z. Allen-Zhu, Y. Li, S. Wang, L. Wang and W. Chen",
        2022,
        "LoRA: low-rank adaptation of large language models",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/2106.09685",
    ),
    "lecun1998": Reference(
        "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner",
        1998,
        "Gradient-based learning applied to document recognition",
        "Proceedings of the IEEE 86(11)",
        "https://doi.org/10.1109/5.726791",
    ),
    "alpaydin1998": Reference(
        "E. Alpaydin and C. Kaynak",
        1998,
        "Optical recognition of handwritten digits",
        "UCI Machine Learning Repository",
        "https://doi.org/10.24432/C50P49",
    ),
    "hayou2024": Reference(
        "S. Hayou, N. Ghosh and B. Yu",
        2024,
        "LoRA+: efficient low rank adaptation of large models",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/2402.12354",
    ),
    "valipour2022": Reference(
        "M. Valipour, M. Rezagholizadeh, I. Kobyzev and A. Ghodsi",
        2022,
        "DyLoRA: parameter-efficient tuning of pre-trained models using dynamic search-free "
        "low-rank adaptation",
        "arXiv:2210.07558",
        "https://arxiv.org/abs/2210.07558",
    ),
    "dettmers2023": Reference(
        "T. Dettmers, A. Pagnoni, A. Holtzman and L. Zettlemoyer",
        2023,
        "QLoRA: efficient finetuning of quantized LLMs",
        "Advances in Neural Information Processing Systems 36",
        "https://arxiv.org/abs/2305.14314",
    ),
    "chen2023": Reference(
        "Y. Chen, S. Qian, H. Tang, X. Lai, Z. Liu, S. Han and J. Jia",
        2023,
        "LongLoRA: efficient fine-tuning of long-context large language models",
        "arXiv:2309.12307",
        "https://arxiv.org/abs/2309.12307",
    ),
    "houlsby2019": Reference(
        "N. Houlsby, A. Giurgiu, S. Jastrzębski, B. Morrone, Q. de Laroussilhe, A. Gesmundo, "
        "M. Attariyan and S. Gelly",
        2019,
        "Parameter-efficient transfer learning for NLP",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/1902.00751",
    ),
    "li2021": Reference(
        "X. L. Li and P. Liang",
        2021,
        "Prefix-tuning: optimizing continuous prompts for generation",
        "Association for Computational Linguistics",
        "https://arxiv.org/abs/2101.00190",
    ),
    "liu2022": Reference(
        "H. Liu, D. Tam, M. Muqeeth, J. Mohta, T. Huang, M. Bansal and C. Raffel",
        2022,
        "Few-shot parameter-efficient fine-tuning is better and cheaper than in-context learning",
        "Advances in Neural Information Processing Systems",
        "https://arxiv.org/abs/2205.05638",
    ),
    "lester2021": Reference(
        "B. Lester, R. Al-Rfou and N. Constant",
        2021,
        "The power of scale for parameter-efficient prompt tuning",
        "Empirical Methods in Natural Language Processing",
        "https://arxiv.org/abs/2104.08691",
    ),
    "li2018": Reference(
        "C. Li, H. Farkhoor, R. Liu and J. Yosinski",
        2018,
        "Measuring the intrinsic dimension of objective landscapes",
        "International Conference on Learning Representations",
        "https://arxiv.org/abs/1804.08838",
    ),
    "aghajanyan2021": Reference(
        "A. Aghajanyan, S. Gupta and L. Zettlemoyer",
        2021,
        "Intrinsic dimensionality explains the effectiveness of language model fine-tuning",
        "Association for Computational Linguistics",
        "https://arxiv.org/abs/2012.13255",
    ),
    "le2013": Reference(
        "Q. Le, T. Sarlós and A. Smola",
        2013,
        "Fastfood: approximating kernel expansions in loglinear time",
        "International Conference on Machine Learning",
        "https://arxiv.org/abs/1408.3060",
    ),
    "olsson2022": Reference(
        "C. Olsson, N. Elhage, N. Nanda, N. Joseph, N. DasSarma, T. Henighan, B. Mann, A. Askell, "
        "Y. Bai, A. Chen, T. Conerly, D. Drain, D. Ganguli, Z. Hatfield-Dodds, D. Hernandez, "
        "S. Johnston, A. Jones, J. Kernion, L. Lovitt, K. Ndousse, D. Amodei, T. Brown, J. Clark, "
        "J. Kaplan, S. McCandlish and C. Olah",
        2022,
        "In-context learning and induction heads",
        "arXiv:2209.11895",
        "https://arxiv.org/abs/2209.11895",
    ),
    "syed2024": Reference(
        "A. Syed, C. Rager and A. Conmy",
        2024,
        "Attribution patching outperforms automated circuit discovery",
        "BlackboxNLP workshop",
        "https://arxiv.org/abs/2310.10348",
    ),
    "hanna2024": Reference(
        "M. Hanna, S. Pezzelle and Y. Belinkov",
        2024,
        "Have faith in faithfulness: going beyond circuit overlap when finding model mechanisms",
        "Conference on Language Modeling",
        "https://arxiv.org/abs/2403.17806",
    ),
    "shapley1953": Reference(
        "L. S. Shapley",
        1953,
        "A value for n-person games",
        "Contributions to the Theory of Games 2, Princeton University Press",
        "https://doi.org/10.1515/9781400881970-018",
    ),
}
