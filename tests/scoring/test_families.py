"""Every family of models against per-sample autograd in float64, on variable-length padded batches.

Each is a tiny random model made from its transformers config, with what sets it apart switched on: sliding windows
shorter than the samples, biases, tied embeddings, dropout.
"""

from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from prism.model import Model
from tests.scoring.exactness import check_exact, encoded

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}
FALCON = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
TOP2 = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
DEEPSEEK = {
    **SIZES,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
DROPOUT = {"attention_dropout": 0.3}
EVERY = ("lora", "linear", "all")


class Family(NamedTuple):
    config: str
    options: dict[str, Any]
    float32: tuple[str, ...] = ()  # choices of parameters that the model itself has gradients of in float32
    loops: tuple[str, ...] = ()  # choices of parameters that go by the per-sample engine


FAMILIES = {
    "llama": Family("llama", {**GROUPED, **DROPOUT}),
    "llama-tied": Family("llama", {**GROUPED, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "qwen2": Family("qwen2", {**GROUPED, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": Family("qwen3", {**GROUPED, "head_dim": 8, "tie_word_embeddings": True}),
    "mistral": Family("mistral", {**GROUPED, **DROPOUT, "sliding_window": 8}),
    "gemma": Family("gemma", {**SIZES, "num_key_value_heads": 1, "head_dim": 8}, ("all",)),
    "gemma2": Family(
        "gemma2", {**GROUPED, **DROPOUT, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}, EVERY
    ),
    "gemma3": Family(
        "gemma3_text",
        {**GROUPED, "head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        ("all",),
    ),
    "phi3": Family("phi3", {**GROUPED, **DROPOUT, "sliding_window": 8, "resid_pdrop": 0.2, "embd_pdrop": 0.2}),
    "olmo2": Family("olmo2", GROUPED),
    "gpt2": Family("gpt2", {**GPT2, "attn_pdrop": 0.3, "resid_pdrop": 0.3, "embd_pdrop": 0.3}),
    "gpt-neox": Family("gpt_neox", {**SIZES, **DROPOUT, "hidden_dropout": 0.3}),
    "gpt-neox-serial": Family("gpt_neox", {**SIZES, "use_parallel_residual": False, "tie_word_embeddings": True}),
    "opt": Family(
        "opt",
        {**FALCON, "ffn_dim": 24, "max_position_embeddings": 64, "word_embed_proj_dim": 8, "dropout": 0.3},
    ),
    "falcon-multi-query": Family("falcon", {**FALCON, "multi_query": True, "parallel_attn": True, **DROPOUT}),
    "falcon-serial": Family(
        "falcon",
        {**FALCON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True, "hidden_dropout": 0.3},
    ),
    "falcon-grouped": Family("falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "stablelm": Family(
        "stablelm",
        {**GROUPED, "qk_layernorm": True, "use_parallel_residual": True, "use_qkv_bias": True, "hidden_dropout": 0.3},
    ),
    "smollm3": Family("smollm3", {**GROUPED, "no_rope_layer_interval": 2, "tie_word_embeddings": True}),
    "granite": Family(
        "granite",
        {**GROUPED, "logits_scaling": 4.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0},
    ),
    "mixtral": Family("mixtral", {**GROUPED, "num_local_experts": 4, "sliding_window": 8, "router_jitter_noise": 0.1}),
    "qwen3-moe": Family("qwen3_moe", {**GROUPED, **TOP2, "head_dim": 8, "decoder_sparse_step": 2}),
    "qwen2-moe": Family("qwen2_moe", {**GROUPED, **TOP2, "shared_expert_intermediate_size": 12}),
    "olmoe": Family("olmoe", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2}),
    "granite-moe": Family("granitemoe", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "gpt-oss": Family(
        "gpt_oss",
        {**GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
        ("all",),
        loops=("all",),
    ),
    "deepseek-v2": Family("deepseek_v2", DEEPSEEK, EVERY),
    "deepseek-v3": Family("deepseek_v3", DEEPSEEK, EVERY),
    "phi": Family("phi", {**GROUPED, "qk_layernorm": True, "resid_pdrop": 0.3}),
    "phi-moe": Family("phimoe", {**GROUPED, "num_local_experts": 4}),
    "cohere": Family("cohere", {**GROUPED, "use_qk_norm": True}, ("all",)),
    "gptj": Family("gptj", {**GPT2, "rotary_dim": 4}, EVERY),  # attention
    "bloom": Family("bloom", {"hidden_size": 16, "n_layer": 2, "n_head": 4}, EVERY),
    "mpt": Family("mpt", {"d_model": 16, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}, EVERY),
    "gpt-bigcode": Family("gpt_bigcode", GPT2),
    "starcoder2": Family("starcoder2", {**GROUPED, "sliding_window": 8}),
    "jetmoe": Family(
        "jetmoe",
        {**GROUPED, "kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
        loops=("linear", "all"),
    ),
    "rwkv": Family(
        "rwkv",
        {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "context_length": 64},
        loops=("all",),
    ),
    "llama4": Family(
        "llama4_text",
        {**GROUPED, "intermediate_size_mlp": 24, "num_local_experts": 2, "head_dim": 8},
        float32=EVERY,
    ),
    "mamba": Family("mamba", {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, loops=("linear", "all")),
}
NO_LORA = {"mamba", "phi-moe", "llama4"}  # PEFT refuses the first, and can't wrap the others' routers
BARE = {"mixtral", "qwen3-moe", "olmoe", "deepseek-v2", "deepseek-v3"}  # their experts, and PEFT knows no dropout there


def build(family: Family, vocabulary: int) -> Any:
    torch.manual_seed(7)
    tokens = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(family.config, **{**tokens, **family.options}))
    with torch.no_grad():
        for parameter in network.parameters():  # norms, biases and routers too must not be at their initial values
            parameter.add_(torch.randn_like(parameter) * 0.15)
    network.set_experts_implementation("eager")
    network.config.use_cache = False  # RWKV writes its state in place
    return network.double()


def with_lora(network: Any, **options: Any) -> Any:
    wrapped = get_peft_model(
        network, LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": "all-linear", **options})
    )
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return wrapped


CASES = [
    (name, which) for name in FAMILIES for which in EVERY if (name, which) not in {(name, "lora") for name in NO_LORA}
]


@pytest.mark.parametrize(("name", "which"), CASES)
def test_scores_and_norms_equal_per_sample_autograd(name: str, which: str, tokenizer: Any) -> None:
    family = FAMILIES[name]
    network = build(family, len(tokenizer))
    if which == "lora":
        network = with_lora(network, lora_dropout=0.0 if name in BARE else 0.3)
    model = Model(network, tokenizer, which)
    said = check_exact(model, encoded(model), 1e-6 if which in family.float32 else 1e-10)
    assert said.startswith("per-sample" if which in family.loops else "backward"), said
