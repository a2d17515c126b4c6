"""The engine against a naive loop and against transformers' GPT-2."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from tinylm.config import GenerationConfig
from tinylm.errors import GenerationError
from tinylm.fast import install
from tinylm.generation import engine
from tinylm.generation.engine import Generated, SpecialIds, Stepper, generate, generate_steps
from tinylm.generation.streams import equal_before
from tinylm.model.decoder import DecoderLM
from tinylm.registry import POSITIONS

SPECIAL = SpecialIds(pad=0, unk=1, sos=2, eos=3)
# Shorter than the context of 10, as long as it, and longer.
PROMPTS = [
    [2],
    [2, 9, 4, 13],
    [2, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [2, 20, 21, 22, 4, 5, 9, 9, 6, 14, 15, 17, 8],
]
VARIANTS = list(itertools.product(POSITIONS, ("post", "pre")))
MakeModel = Callable[..., DecoderLM]


def greedy(**settings: object) -> GenerationConfig:
    return GenerationConfig(**{"strategy": "greedy", "max_new_tokens": 15, **settings})


def sampling(**settings: object) -> GenerationConfig:
    values = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 15, "seed": 3}
    return GenerationConfig(**{**values, **settings})


@torch.no_grad()
def naive(
    model: DecoderLM,
    prompt: list[int],
    max_new_tokens: int,
    choose: Callable[[Tensor], int] = lambda logits: int(logits.argmax()),
    forbidden: tuple[int, ...] = (0, 1, 2),
) -> Generated:
    """The plain way: the last window through the model, one token more, and again."""
    ids, total, finished, slid = list(prompt), 0.0, False, False
    for _ in range(max_new_tokens):
        slid = slid or len(ids) > model.config.context_length
        logits = model(torch.tensor([ids[-model.config.context_length :]]))[0, -1]
        allowed = logits.clone()
        allowed[list(forbidden)] = -torch.inf
        token = choose(allowed)
        total += float(logits.log_softmax(-1)[token])
        if token == SPECIAL.eos:
            finished = True
            break
        ids.append(token)
    return Generated(ids[len(prompt) :], finished, total, slid)


def assert_same(result: Generated, expected: Generated) -> None:
    assert result.ids == expected.ids
    assert (result.finished, result.slid) == (expected.finished, expected.slid)
    assert result.log_probability == pytest.approx(expected.log_probability, rel=1e-4, abs=1e-4)


def without_eos(model: DecoderLM) -> DecoderLM:
    """Make ``<eos>`` all but impossible, so that texts reach the maximum length."""
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] = -1e4
    return model


@pytest.mark.parametrize(("positions", "norm"), VARIANTS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_ragged_batch_equals_the_naive_loop_beyond_the_context(
    small_model: MakeModel, positions: str, norm: str, use_cache: bool
) -> None:
    model = without_eos(small_model(positions=positions, norm_placement=norm))
    expected = [naive(model, prompt, 15) for prompt in PROMPTS]
    assert [naive_result.slid for naive_result in expected] == [True] * 4
    assert len({tuple(naive_result.ids) for naive_result in expected}) > 1  # the prompts matter
    for result, naive_result in zip(
        generate(model, PROMPTS, greedy(), SPECIAL, use_cache), expected, strict=True
    ):
        assert_same(result, naive_result)


@pytest.mark.parametrize(("positions", "norm"), VARIANTS)
def test_cached_sampling_equals_uncached(small_model: MakeModel, positions: str, norm: str) -> None:
    for seed in range(3):
        model = small_model(seed, positions=positions, norm_placement=norm)
        cached = generate(model, PROMPTS, sampling(seed=seed), SPECIAL)
        plain = generate(model, PROMPTS, sampling(seed=seed), SPECIAL, use_cache=False)
        for result, uncached in zip(cached, plain, strict=True):
            assert_same(result, uncached)


def test_texts_that_end_by_themselves_equal_the_naive_loop(small_model: MakeModel) -> None:
    ended = 0
    for seed in range(8):
        model = small_model(seed)
        with torch.no_grad():
            model.unembedding.bias[SPECIAL.eos] += 4
        for prompt, result in zip(
            PROMPTS, generate(model, PROMPTS, greedy(), SPECIAL), strict=True
        ):
            assert_same(result, naive(model, prompt, 15))
            ended += result.finished
    assert 3 < ended < 32  # both ways of ending occur


def test_a_window_that_shifted_its_cache_would_be_seen(small_model: MakeModel) -> None:
    """Evict-and-shift keeps keys of old positions; here it gives other texts, so tests can tell."""
    model = without_eos(small_model())
    expected = naive(model, PROMPTS[2], 15).ids
    ids = list(PROMPTS[2])
    first = ids[0]
    with torch.no_grad():
        for _ in range(15):
            window = [first, *ids[-9:]]  # the first token kept in place
            logits = model(torch.tensor([window]))[0, -1]
            logits[[0, 1, 2]] = -torch.inf
            ids.append(int(logits.argmax()))
    assert ids[10:] != expected


def test_each_row_of_a_greedy_batch_is_the_prompt_alone(small_model: MakeModel) -> None:
    model = small_model()
    for prompt, result in zip(PROMPTS, generate(model, PROMPTS, greedy(), SPECIAL), strict=True):
        (alone,) = generate(model, [prompt], greedy(), SPECIAL)
        assert_same(result, alone)


def test_a_sampled_text_is_the_same_alone_and_anywhere_in_a_batch(small_model: MakeModel) -> None:
    model = small_model(5)
    batch = generate(model, PROMPTS, sampling(), SPECIAL)
    for prompt, text in zip(PROMPTS, batch, strict=True):
        (alone,) = generate(model, [prompt], sampling(), SPECIAL)
        assert_same(text, alone)
    turned = generate(model, [[2, 8, 8], *PROMPTS[::-1]], sampling(), SPECIAL)[:0:-1]
    for text, other in zip(batch, turned, strict=True):
        assert_same(text, other)
    # The same prompt once more is another sample.
    same = generate(model, [PROMPTS[1]] * 6, sampling(), SPECIAL)
    assert len({tuple(sample.ids) for sample in same}) > 3


def test_batches_of_any_size_give_the_same_texts(small_model: MakeModel) -> None:
    model = small_model(5)
    prompts = [*PROMPTS, PROMPTS[1], PROMPTS[1]]
    whole = generate(model, prompts, sampling(), SPECIAL)
    numbers = equal_before(prompts)
    assert numbers == [0, 0, 0, 0, 1, 2]
    parts = generate(model, prompts[:3], sampling(), SPECIAL)
    parts += generate(model, prompts[3:], sampling(), SPECIAL, numbers=numbers[3:])
    for part, expected in zip(parts, whole, strict=True):
        assert_same(part, expected)


def test_seeds_repeat_and_differ(small_model: MakeModel) -> None:
    model = small_model(5)

    def texts(seed: int) -> list[list[int]]:
        return [result.ids for result in generate(model, PROMPTS, sampling(seed=seed), SPECIAL)]

    assert texts(1) == texts(1)
    assert len({str(texts(seed)) for seed in range(5)}) == 5
    torch.manual_seed(99)  # torch's global state plays no part
    assert texts(1) == texts(1)
    before = torch.get_rng_state()
    texts(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_finished_rows_leave_the_batch(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    step = Stepper.logits

    def counted(self: Stepper) -> Tensor:
        sizes.append(len(self.rows))
        return step(self)

    monkeypatch.setattr(engine.Stepper, "logits", counted)
    model = small_model(5)
    prompts = [[2, i] for i in range(4, 20)]
    results = generate(model, prompts, sampling(max_new_tokens=40), SPECIAL)
    lengths = [len(result.ids) + result.finished for result in results]
    assert sizes == [sum(length > step for length in lengths) for step in range(max(lengths))]
    assert sizes[0] == 16
    assert sizes[-1] < 16


def test_log_probability_is_the_models_own(small_model: MakeModel) -> None:
    """Under the unfiltered model, ``<eos>`` included, whatever the sampler did."""
    model = small_model(5, context_length=40)
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] += 2
    settings = sampling(temperature=0.9, top_k=5, repetition_penalty=1.4)
    results = generate(model, PROMPTS, settings, SPECIAL)
    assert any(result.finished for result in results)
    assert any(not result.finished for result in results)
    for prompt, result in zip(PROMPTS, results, strict=True):
        ids = prompt + result.ids + [SPECIAL.eos] * result.finished
        with torch.no_grad():
            logits = model(torch.tensor([ids[:-1]]))[0].double()
        chosen = logits.softmax(-1)[range(len(ids) - 1), ids[1:]].log()
        expected = float(chosen[len(prompt) - 1 :].sum())
        assert result.log_probability == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("strategy", ["greedy", "sampling"])
def test_pad_and_sos_are_never_generated_and_unk_only_if_allowed(
    small_model: MakeModel, strategy: str
) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias[[SPECIAL.pad, SPECIAL.sos, SPECIAL.unk]] += 50
    settings = sampling(strategy=strategy, max_new_tokens=30)
    made = [i for result in generate(model, PROMPTS, settings, SPECIAL) for i in result.ids]
    assert made
    assert not {SPECIAL.pad, SPECIAL.sos, SPECIAL.unk, SPECIAL.eos} & set(made)
    allowed = sampling(strategy=strategy, max_new_tokens=30, allow_unk=True)
    made = [i for result in generate(model, PROMPTS, allowed, SPECIAL) for i in result.ids]
    assert set(made) == {SPECIAL.unk}


def test_the_repetition_penalty_counts_the_prompt_and_the_new_tokens(
    small_model: MakeModel,
) -> None:
    model = without_eos(small_model(2))
    settings = greedy(repetition_penalty=1e6, max_new_tokens=12)
    with torch.no_grad():
        model.unembedding.bias += 100  # all logits positive, so that a seen one drops to about 0
        model.unembedding.bias[SPECIAL.eos] = -1e4
    (result,) = generate(model, [[2, 9, 4, 13]], settings, SPECIAL)
    assert len(set(result.ids)) == 12
    assert not {9, 4, 13} & set(result.ids)


@pytest.mark.parametrize(
    ("length", "new", "slid"), [(4, 7, False), (4, 8, True), (10, 1, False), (11, 1, True)]
)
def test_slid_says_when_the_beginning_was_no_longer_seen(
    small_model: MakeModel, length: int, new: int, slid: bool
) -> None:
    # 4 + 7 tokens: the last was predicted from the 10 before it, which the context holds.
    model = without_eos(small_model())
    prompt = [2, *range(4, 3 + length)]
    (result,) = generate(model, [prompt], greedy(max_new_tokens=new), SPECIAL)
    assert (len(result.ids), result.slid) == (new, slid)


def test_streaming_yields_what_generate_returns(small_model: MakeModel) -> None:
    model = small_model(5)
    whole = generate(model, PROMPTS, sampling(), SPECIAL)
    steps = generate_steps(model, PROMPTS, sampling(), SPECIAL)
    texts: list[list[int]] = [[] for _ in PROMPTS]
    for pairs in steps:
        for prompt, token in pairs:
            texts[prompt].append(token)
    assert texts == [result.ids for result in whole]


def test_a_model_in_training_mode_generates_without_dropout_and_is_put_back(
    small_model: MakeModel,
) -> None:
    model = small_model()
    expected = generate(model, PROMPTS, greedy(), SPECIAL)
    model.train()
    assert generate(model, PROMPTS, greedy(), SPECIAL) == expected
    assert model.training
    steps = generate_steps(model, PROMPTS, greedy(), SPECIAL)
    next(steps)
    assert not model.training
    steps.close()  # a reader that stops early
    assert model.training


@pytest.mark.parametrize("prompts", [[], [[]], [[2, 4], []]])
def test_a_prompt_without_any_token_is_refused(
    small_model: MakeModel, prompts: list[list[int]]
) -> None:
    with pytest.raises(GenerationError, match=r"at least one token; begin with <sos>"):
        generate(small_model(), prompts, greedy(), SPECIAL)


def test_float64_models_are_not_rounded(small_model: MakeModel) -> None:
    model = small_model().double()
    (result,) = generate(model, [PROMPTS[1]], greedy(), SPECIAL)
    expected = naive(model, PROMPTS[1], 15)
    assert result.ids == expected.ids
    assert result.log_probability == pytest.approx(expected.log_probability, rel=1e-12)


@pytest.mark.parametrize("strategy", ["greedy", "sampling", "beam"])
def test_a_quick_model_that_the_loops_do_not_suit_chooses_as_a_plain_one(
    small_model: MakeModel, strategy: str
) -> None:
    settings = GenerationConfig(strategy=strategy, max_new_tokens=8, top_k=0, top_p=1.0)
    plain, quick = small_model().double(), small_model().double()
    install(quick)
    results = [generate(model, PROMPTS, settings, SPECIAL) for model in (plain, quick)]
    assert [each.ids for each in results[0]] == [each.ids for each in results[1]]


# --- transformers ---


def as_gpt2(model: DecoderLM) -> GPT2LMHeadModel:
    """The same weights in transformers' GPT-2."""
    config = model.config
    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.resolved_vocab_size,
            n_positions=config.context_length,
            n_embd=config.hidden_size,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            n_inner=config.resolved_ffn_size,
            activation_function="gelu_new",
            layer_norm_epsilon=config.norm_eps,
            bos_token_id=SPECIAL.sos,
            eos_token_id=SPECIAL.eos,
            pad_token_id=SPECIAL.pad,
        )
    )
    ours = model.state_dict()
    renamed = {
        "transformer.wte.weight": ours["embedding.weight"],
        "transformer.wpe.weight": ours["positions.table.weight"],
        "transformer.ln_f.weight": ours["final_norm.weight"],
        "transformer.ln_f.bias": ours["final_norm.bias"],
        "lm_head.weight": ours["embedding.weight"],
    }
    for i in range(config.num_layers):
        for their_name, our_name in (
            ("ln_1", "attention_norm"),
            ("ln_2", "feed_forward_norm"),
            ("attn.c_attn", "attention.query_key_value"),
            ("attn.c_proj", "attention.output"),
            ("mlp.c_fc", "feed_forward.expand"),
            ("mlp.c_proj", "feed_forward.contract"),
        ):
            for kind in ("weight", "bias"):
                weight = ours[f"layers.{i}.{our_name}.{kind}"]
                # GPT-2 stores its linear maps the other way round.
                weight = weight.T if weight.ndim == 2 else weight
                renamed[f"transformer.h.{i}.{their_name}.{kind}"] = weight
    gpt2.load_state_dict(renamed)
    return gpt2.eval()


@pytest.fixture(scope="module")
def pair(small_model: MakeModel) -> tuple[DecoderLM, GPT2LMHeadModel]:
    model = small_model(
        context_length=64,
        norm_placement="pre",
        positions="learned",
        activation="gelu-tanh",
        tie_embeddings=True,
        scale_embeddings=False,
        sharpness=40.0,  # tied: the input side grows as well
    )
    return model, as_gpt2(model)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_equals_transformers_gpt2(
    pair: tuple[DecoderLM, GPT2LMHeadModel], prompt: list[int], penalty: float
) -> None:
    model, gpt2 = pair
    (ours,) = generate(
        model, [prompt], greedy(max_new_tokens=30, repetition_penalty=penalty), SPECIAL
    )
    ids = torch.tensor([prompt])
    theirs = gpt2.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=30,
        do_sample=False,
        repetition_penalty=penalty,
        suppress_tokens=[SPECIAL.pad, SPECIAL.unk, SPECIAL.sos],
    )[0, len(prompt) :].tolist()
    assert ours.ids == [token for token in theirs if token != SPECIAL.eos]
    assert ours.finished == (SPECIAL.eos in theirs)


def test_a_greedy_batch_equals_transformers_left_padded_batch(
    pair: tuple[DecoderLM, GPT2LMHeadModel],
) -> None:
    model, gpt2 = pair
    ours = generate(model, PROMPTS, greedy(max_new_tokens=30), SPECIAL)
    longest = max(map(len, PROMPTS))
    padded = [[SPECIAL.pad] * (longest - len(prompt)) + prompt for prompt in PROMPTS]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS]
    theirs = gpt2.generate(
        torch.tensor(padded),
        attention_mask=torch.tensor(mask),
        max_new_tokens=30,
        do_sample=False,
        suppress_tokens=[SPECIAL.pad, SPECIAL.unk, SPECIAL.sos],
        pad_token_id=SPECIAL.eos,  # fills rows that ended
    )[:, longest:].tolist()
    for result, row in zip(ours, theirs, strict=True):
        assert result.ids == [token for token in row if token != SPECIAL.eos]


def test_without_the_cache_no_copy_is_prepared_for_ever_more_rows(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        engine, "for_decoding", lambda model, numbers: asked.append(numbers) or model
    )
    model = small_model().eval()
    for linear in ("plain", "packed", "packed-bf16", "packed-int8"):
        for use_cache in (True, False):
            generate(model, [[2, 5]], greedy(max_new_tokens=1, linear=linear), SPECIAL, use_cache)
    # Rounded weights change what is said, with the cache and without.
    assert asked == ["float32", "bfloat16", "bfloat16", "int8", "int8"]


@pytest.mark.parametrize("config", [greedy(), greedy(linear="packed"), sampling()])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_refused(
    small_model: MakeModel, config: GenerationConfig, number: float
) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias[7] = number
    with pytest.raises(GenerationError, match="the model's logits are not finite"):
        generate(model, PROMPTS[1:2], config, SPECIAL)
