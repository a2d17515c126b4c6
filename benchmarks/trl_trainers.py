"""TRL's trainers of PPO, GRPO and DPO, set up to take one step when called.

Each is the package's own trainer on transformers' GPT-2, in fp32, without gradient checkpointing,
logging and files, which it would do beside. PPO has a value model of its own there, of the size of
the policy; its reward model and GRPO's reward function cost next to nothing, as ours does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest import mock

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
)
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from tinylm.model.decoder import DecoderLM

AS_GPT2: dict[str, Any] = {
    "positions": "learned",
    "norm_placement": "pre",
    "activation": "gelu-tanh",
    "scale_embeddings": False,
    "tie_embeddings": True,
}
"""Settings of our decoder that make it a GPT-2."""
PAD, SOS, EOS = 0, 2, 3
_IN_LAYER = {  # ours -> theirs; their linear maps are stored transposed
    "attention_norm": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.contract": "mlp.c_proj",
}


def gpt2_of(model: DecoderLM) -> GPT2LMHeadModel:
    """Return transformers' GPT-2 with the weights of ours."""
    config = model.config
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.resolved_vocab_size,
            n_positions=config.context_length,
            n_embd=config.hidden_size,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            activation_function="gelu_new",
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=SOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    )
    state = model.state_dict()
    with torch.no_grad():
        theirs.transformer.wte.weight.copy_(state["embedding.weight"])
        theirs.transformer.wpe.weight.copy_(state["positions.table.weight"])
        for kind in ("weight", "bias"):
            getattr(theirs.transformer.ln_f, kind).copy_(state[f"final_norm.{kind}"])
            for i in range(config.num_layers):
                for ours, other in _IN_LAYER.items():
                    value = state[f"layers.{i}.{ours}.{kind}"]
                    turned = value.T if value.ndim == 2 else value
                    theirs.transformer.h[i].get_submodule(other).get_parameter(kind).copy_(turned)
    return theirs


def tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words are the numbers of their ids."""
    words = {"<pad>": 0, "<unk>": 1, "<sos>": 2, "<eos>": 3}
    words |= {str(i): i for i in range(4, vocab_size)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<sos>",
        eos_token="<eos>",
        padding_side="left",
    )


def _word(token: int) -> str:
    return "<sos>" if token == SOS else str(token)


def _common() -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_grad_norm": 1.0,
    }


def ppo(
    policy: GPT2LMHeadModel,
    prompts: Sequence[Sequence[int]],
    most: int,
    passes: int,
    rate: float,
    given: Sequence[Sequence[int]] | None,
) -> Callable[[], None]:
    """Return what takes a phase of PPO: rollouts and so many passes over them.

    Args:
        policy: trained in place.
        prompts: of equal length, one a response.
        most: tokens of a response.
        passes: over the responses of a phase.
        rate: learning rate.
        given: responses that stand for generated ones, ``<eos>`` at their end; None: they are
            generated.
    """
    config = policy.config
    value = GPT2ForSequenceClassification(_of_classes(config))
    tiny = _of_classes(config, n_layer=1, n_embd=8, n_head=1)
    trainer = PPOTrainer(
        args=PPOConfig(
            **_common(),
            learning_rate=rate,
            per_device_train_batch_size=len(prompts),
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            num_ppo_epochs=passes,
            total_episodes=len(prompts),
            local_rollout_forward_batch_size=len(prompts),
            response_length=most,
            stop_token_id=EOS,
            num_sample_generations=0,
            kl_coef=0.05,
        ),
        processing_class=tokenizer(config.vocab_size),
        model=policy,
        ref_model=deepcopy(policy),
        reward_model=GPT2ForSequenceClassification(tiny),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": [list(prompt) for prompt in prompts]}),
    )
    trainer.remove_callback(PrinterCallback)
    if given is None:
        return trainer.train
    texts = torch.full((len(prompts), len(prompts[0]) + most), PAD)
    for row, (prompt, response) in enumerate(zip(prompts, given, strict=True)):
        texts[row, : len(prompt)] = torch.tensor(prompt)
        texts[row, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
    with torch.no_grad():  # generating leaves these behind
        logits = policy(texts, use_cache=False).logits[:, len(prompts[0]) - 1 : -1].contiguous()

    def step() -> None:
        with mock.patch.object(ppo_trainer, "batch_generation", lambda *_: (texts, logits)):
            trainer.train()

    return step


def _of_classes(config: GPT2Config, **changed: Any) -> GPT2Config:
    made = deepcopy(config)
    made.num_labels = 1
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def grpo(
    policy: GPT2LMHeadModel,
    prompts: Sequence[Sequence[int]],
    group: int,
    most: int,
    rate: float,
    reward: Callable[[Sequence[Sequence[int]]], list[float]],
    given: Sequence[Sequence[int]] | None,
) -> Callable[[], None]:
    """Return what takes a step of GRPO; arguments as of ``ppo``.

    Args:
        policy: trained in place.
        prompts: one a group.
        group: responses to a prompt.
        most: tokens of a response.
        rate: learning rate.
        reward: of responses as ids.
        given: responses that stand for generated ones; None: they are generated.
    """
    folder = tempfile.mkdtemp()
    policy.save_pretrained(folder)  # the start is read from where the policy came from
    policy.config._name_or_path = folder
    words = tokenizer(policy.config.vocab_size)
    texts = [" ".join(map(_word, prompt)) for prompt in prompts]

    def rewarded(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return reward(completion_ids)

    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=rewarded,
        args=GRPOConfig(
            **_common(),
            learning_rate=rate,
            per_device_train_batch_size=len(prompts) * group,
            gradient_accumulation_steps=1,
            num_generations=group,
            max_completion_length=most,
            top_k=0,
            beta=0.05,
            loss_type="grpo",
        ),
        processing_class=words,
        train_dataset=Dataset.from_dict({"prompt": texts}),
    )
    rows = [{"prompt": text} for text in texts for _ in range(group)]
    step = _stepped(trainer, rows)
    if given is None:
        return step
    ids = [list(response) for response in given]

    def without_generation() -> None:
        with mock.patch.object(trainer, "_generate_single_turn", lambda *_, **__: (ids, None)):
            step()

    return without_generation


def dpo(
    policy: GPT2LMHeadModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]],
    rate: float,
    beta: float,
) -> Callable[[], None]:
    """Return what takes a step of DPO on pairs, the start's part of them computed before.

    Args:
        policy: trained in place.
        pairs: prompt, better and worse response.
        rate: learning rate.
        beta: of the loss.
    """
    prompts, chosen, rejected = (
        [" ".join(_word(i) for i in each if i != EOS) for each in part]
        for part in zip(*pairs, strict=True)
    )
    trainer = DPOTrainer(
        model=policy,
        ref_model=deepcopy(policy),
        args=DPOConfig(
            **_common(),
            learning_rate=rate,
            per_device_train_batch_size=len(pairs),
            precompute_ref_log_probs=True,
            beta=beta,
            max_length=None,
        ),
        processing_class=tokenizer(policy.config.vocab_size),
        train_dataset=Dataset.from_dict(
            {"prompt": prompts, "chosen": chosen, "rejected": rejected}
        ),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    return _stepped(trainer, batch)


def _stepped(trainer: Any, inputs: Any) -> Callable[[], None]:
    """Return what takes one optimizer step as the loop of transformers' trainer does."""
    trainer.create_optimizer_and_scheduler(num_training_steps=10_000)
    model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    trainer.model_wrapped = model
    trainer.current_gradient_accumulation_steps = 1
    parameters = [p for p in model.parameters() if p.requires_grad]

    def step() -> None:
        model.train()
        trainer.training_step(model, inputs, None)
        trainer.accelerator.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        trainer.lr_scheduler.step()
        model.zero_grad()

    return step


@contextmanager
def quiet() -> Any:
    """Drop what trainers say about themselves."""
    import logging
    import warnings

    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
