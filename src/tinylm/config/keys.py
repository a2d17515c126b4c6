"""Which setting was meant by a key that does not exist."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

_MOST_LISTED = 8
ALSO_CALLED: dict[str, str] = {
    "learning_rate": "lr rate learn_rate max_lr peak_lr step_size",
    "min_learning_rate_ratio": "min_lr min_learning_rate lr_min",
    "weight_decay": "wd decay l2",
    "optimizer": "opt optim optimiser",
    "beta1": "betas momentum adam_beta1",
    "beta2": "adam_beta2",
    "eps": "epsilon adam_epsilon",
    "schedule": "scheduler lr_schedule lr_scheduler lr_scheduler_type lr_decay decay_lr",
    "warmup_steps": "warmup warmup_iters num_warmup_steps",
    "gradient_clip": "grad_clip clip clip_grad max_grad_norm gradient_clip_val max_norm",
    "batch_size": "batch batches bs batchsize minibatch mini_batch_size micro_batch_size "
    "per_device_train_batch_size train_batch_size",
    "accumulation_steps": "accumulation grad_accum gradient_accumulation accum_steps "
    "gradient_accumulation_steps accumulate_grad_batches",
    "gradient_checkpointing": "checkpointing activation_checkpointing recompute",
    "epochs": "epoch num_epochs n_epochs max_epochs num_train_epochs",
    "max_steps": "steps step num_steps n_steps iterations iters max_iters num_iterations",
    "precision": "dtype amp fp16 bf16 mixed_precision torch_dtype",
    "threads": "num_threads n_threads cpus cores workers",
    "validation_interval": "eval_interval eval_steps eval_every evaluation_interval val_interval "
    "validate_every",
    "validation_windows": "eval_iters validation_steps val_batches",
    "early_stop_patience": "patience early_stopping_patience",
    "checkpoint_interval": "save_steps save_interval save_every checkpoint_every",
    "keep_checkpoints": "save_total_limit",
    "log_interval": "logging_steps log_steps log_every",
    "num_layers": "layers n_layer n_layers layer depth num_hidden_layers num_blocks blocks",
    "num_heads": "heads n_head n_heads head nhead num_attention_heads attention_heads",
    "hidden_size": "dim d_model n_embd embed_dim embedding_dim embedding_size emb_dim hidden "
    "hidden_dim width model_dim n_embed",
    "head_dim": "head_size d_head d_k",
    "ffn_size": "ffn ffn_dim d_ff ff_dim feed_forward feedforward_size intermediate_size mlp_dim "
    "dim_feedforward inner_size mlp_ratio",
    "context_length": "context block_size seq_len seq_length sequence_length max_seq_len "
    "max_seq_length max_length n_ctx context_size context_window max_position_embeddings "
    "n_positions",
    "vocab_size": "vocab vocabulary vocabulary_size n_vocab max_size max_vocab_size",
    "max_size": "vocab vocab_size vocabulary vocabulary_size max_vocab_size",
    "dropout": "p_drop dropout_rate dropout_p lora_dropout drop resid_pdrop attn_pdrop",
    "norm_placement": "norm pre_norm post_norm norm_first prenorm norm_position",
    "norm_eps": "layer_norm_eps layernorm_eps layer_norm_epsilon ln_eps",
    "activation": "act act_fn hidden_act nonlinearity activation_function",
    "positions": "pos position pos_encoding positional_encoding position_embedding rope "
    "position_embedding_type pos_emb",
    "tie_embeddings": "tie_weights weight_tying tie_word_embeddings tied",
    "max_new_tokens": "new_tokens max_tokens num_tokens length generate_tokens",
    "min_new_tokens": "min_tokens min_length",
    "temperature": "temp t",
    "top_k": "topk k",
    "top_p": "topp p nucleus nucleus_p",
    "repetition_penalty": "penalty rep_penalty",
    "num_beams": "beams beam beam_size beam_width n_beams",
    "num_return": "n num_return_sequences num_samples best_of",
    "strategy": "decoding sampler method do_sample",
    "corpus": "dataset data_set dataset_name",
    "path": "file folder dataset dataset_path data_path data_dir input vectors_path fasttext",
    "train_stories": "stories num_stories max_stories train_size",
    "validation_stories": "valid_stories val_stories",
    "validation_fraction": "val_fraction valid_fraction val_split validation_split test_size",
    "text_field": "text_column column",
    "label_field": "label_column",
    "min_frequency": "min_count min_freq",
    "kind": "type tokenizer_type",
    "source": "vectors fasttext pretrained",
    "trainable": "freeze frozen requires_grad",
    "seed": "random_seed random_state",
    "rank": "r lora_r lora_rank",
    "alpha": "lora_alpha",
    "targets": "target target_modules lora_target_modules",
    "learning_rate_ratio": "loraplus_lr_ratio lr_ratio",
    "block_size": "quant_block_size",
    "size": "bottleneck adapter_size reduction_factor",
    "length": "num_virtual_tokens prompt_length prefix_length",
    "title": "name heading",
    "author": "authors by",
}
"""Names of other packages and of everyday speech, by the last part of the key here."""


def also_called(key: str, name: str) -> bool:
    """Return whether another name than its own means a setting."""
    return name in ALSO_CALLED.get(_last(key), "").split()


def meant(key: str, known: Sequence[str], sections: Sequence[str]) -> str:
    """Return ``"; did you mean section.key?"`` for a key that does not exist.

    What other packages call a key, its name in another section, and a close spelling are looked
    for, first within its own section. If there is none, those that are allowed, or how to list
    them.

    Args:
        key: dotted.
        known: every dotted key.
        sections: names of the first level.
    """
    section, _, name = key.rpartition(".")
    name = name.strip().lower().replace("-", "_")
    inside = [other for other in known if other.rpartition(".")[0] == section]
    own = [_last(other) for other in inside]
    outer = [other for other in known if other.count(".") <= 1]
    called = [last for last, names in ALSO_CALLED.items() if name in names.split()]
    for names, among in (
        (called, inside),
        ([name], outer),
        (get_close_matches(name, own, 2, 0.8), inside),
        (called, known),
        ([name], known),
        (get_close_matches(name, own, 2, 0.5), inside),
        (get_close_matches(name, [_last(other) for other in known], 2, 0.75), known),
    ):
        keys = [other for other in among if _last(other) in names]
        if keys:
            return f"; did you mean {' or '.join(_likeliest(keys, names))}?"
    if not section:
        close = get_close_matches(key, sections, 2, 0.5)
        if close:
            return f"; did you mean {' or '.join(close)}?"
        return f"; allowed: {', '.join(sections)}"
    if 0 < len(inside) <= _MOST_LISTED:
        return f"; allowed: {', '.join(sorted(inside))}"
    return "; `tinylm config` lists all keys"


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _likeliest(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the two with the fewest sections around them."""
    fewest = min(key.count(".") for key in keys)
    best = [key for key in keys if key.count(".") == fewest]
    return sorted(best, key=lambda key: names.index(_last(key)))[:2]
