"""Small configurations from the default ones: few layers, narrow, a short vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

VOCABULARY = 99

SIZES: dict[int, str] = {
    0: "num_kv_shared_layers",
    1: "n_group topk_group first_k_dense_replace num_expert_group",
    2: """num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers depth
        num_encoder_layers num_decoder_layers e_layers d_layers num_blocks n_blocks
        num_hidden_groups vision_layers encoder_depth decoder_depth decoder_num_hidden_layers
        num_block_layers l_layers r_layers x_layers encoder_num_layers decoder_num_layers
        qformer_num_hidden_layers decoder_n_layers num_codebook_layers num_ln_layers
        duration_predictor_layers num_key_value_heads n_kv_heads num_kv_heads
        linear_num_key_heads encoder_num_key_value_heads decoder_num_key_value_heads
        num_query_groups num_attention_groups swa_num_key_value_heads
        num_global_key_value_heads num_experts_per_tok num_experts_per_token moe_top_k
        moe_k num_selected_experts top_k_experts num_experts_per_topk""",
    3: "num_labels num_feature_levels",
    4: """num_attention_heads n_head n_heads encoder_attention_heads decoder_attention_heads
        num_heads num_encoder_attention_heads num_decoder_attention_heads attention_heads
        decoder_num_attention_heads n_local_heads vision_num_heads encoder_num_heads
        decoder_num_heads num_self_attention_heads num_cross_attention_heads vision_heads
        linear_num_value_heads qformer_heads encoder_num_attention_heads num_attn_heads nheads
        num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts
        n_experts num_frames frames_per_clip window_size""",
    8: """head_dim attention_head_dim d_kv kv_channels global_head_dim attention_head_size d_head
        head_size linear_key_head_dim linear_value_head_dim index_head_dim v_head_dim
        qk_nope_head_dim qk_rope_head_dim swa_head_dim swa_v_head_dim decoder_head_dim
        mamba_d_state state_size ssm_state_size mamba_d_head mamba_head_dim mamba_n_heads
        mamba_num_heads hidden_size_per_layer_input per_layer_dim num_queries
        num_query_tokens num_latents attention_window sliding_window window local_window_size
        attention_window_size attention_chunk_size""",
    16: """q_lora_rank kv_lora_rank o_lora_rank lora_rank low_rank_dim compress_dim codebook_dim
        num_buckets num_mel_bins n_mels num_mel_channels""",
    32: """hidden_size d_model n_embd dim embed_dim embedding_size word_embed_proj_dim emb_dim
        hidden_dim encoder_hidden_dim decoder_hidden_size projection_dim model_dim
        attention_hidden_size encoder_hidden_size cross_hidden_size vision_hidden_size
        text_embed_dim text_embedding_dim vision_embed_dim mm_hidden_size output_dim
        shared_embed_dim hidden_channels mask_feature_size d_embed out_hidden_size
        true_hidden_size encoder_d_model embedding_dim fpn_hidden_size vit_hidden_size
        decoder_embed_dim width reduction_hidden dim_model lstm_hidden_size linear_hidden_size
        query_dim token_embed_dim proj_dim vision_dim output_proj_dims image_size img_size
        vision_image_size codebook_size num_embeddings""",
    64: """intermediate_size encoder_ffn_dim decoder_ffn_dim ffn_dim d_ff n_inner d_inner
        ffn_hidden_size dim_feedforward mlp_dim inner_dim decoder_intermediate_size
        intermediate_dim dim_ff shared_expert_intermediate_size dense_intermediate_size
        moe_intermediate_size expert_intermediate_size linear_units feed_forward_size
        intermediate_size_mlp ffn_intermediate_size shared_intermediate_size mlp_hidden_size
        filter_size encoder_hidden_ffn encoder_feedforward_dim block_ff_dim lru_width
        decoder_ff_dim""",
    VOCABULARY: """vocab_size src_vocab_size tgt_vocab_size encoder_vocab_size decoder_vocab_size
        n_vocab text_vocab_size audio_vocab_size t2u_vocab_size vocab_size_per_layer_input
        question_encoder_vocab_size input_vocab_size output_vocab_size codebook_vocab_size""",
    128: """max_position_embeddings n_positions max_sequence_length n_ctx max_source_positions
        max_target_positions max_len max_text_len max_seq_len max_seq_length
        original_max_position_embeddings t2u_max_position_embeddings max_speech_positions
        max_text_positions model_max_length""",
}
"""The most that a whole number is left at, by its name; others are left as they are."""
AT_MOST = {name: size for size, names in SIZES.items() for name in names.split()}
WIDTHS = re.compile(r"hidden_sizes|hidden_dims|embed_dims?$|channels|reassemble_hidden")
"""Lists of widths, one for each stage."""
DEPTHS = ("depths", "num_blocks_per_stage")
HEADS = ("num_attention_heads", "num_heads", "encoder_num_heads")
TOKEN = re.compile(r"(token_id|token_index|_id|_token)$")
KEPT_BY_CLASS = (
    "transformers_version", "architectures", "_name_or_path", "dtype", "torch_dtype", "model_type",
)  # fmt: skip
"""What the class of a configuration knows by itself."""


def shrunk(config: Mapping[str, Any], mended: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What to change in a configuration, as arguments of its class.

    Parameters
    ----------
    config
        The default one, as a mapping. Nested ones, whose names end in ``config``, are shrunk too.
    mended
        What a model type needs instead, in each of the nested ones as well; under a name with a
        dot (``"text_config.hidden_size"``) in that one only.

    Examples
    --------
    >>> shrunk({"hidden_size": 768, "num_layers": 12, "dropout": 0.1, "pad_token_id": 50256})
    {'hidden_size': 32, 'num_layers': 2, 'pad_token_id': 91}
    >>> shrunk({"text_config": {"hidden_size": 768}}, {"text_config.hidden_size": 48})
    {'text_config': {'hidden_size': 48}}
    """
    mended = mended or {}
    changes: dict[str, Any] = {}
    for name, value in config.items():
        if name in KEPT_BY_CLASS:
            continue
        if name in mended:
            changes[name] = mended[name]
        elif isinstance(value, Mapping) and name.endswith("config"):
            changes[name] = shrunk(value, _inside(mended, name))
            if "model_type" in value:
                changes[name]["model_type"] = value["model_type"]
        else:
            small = _small(name, value)
            if small != value:
                changes[name] = small
    return changes


def _inside(mended: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What holds for the nested configuration of that name."""
    everywhere = {key: value for key, value in mended.items() if "." not in key}
    start = f"{name}."
    return everywhere | {k.removeprefix(start): v for k, v in mended.items() if k.startswith(start)}


def _small(name: str, value: Any) -> Any:
    if type(value) is int:
        if name in AT_MOST:
            return min(value, AT_MOST[name])
        # A token that the short vocabulary does not hold becomes one of its last.
        return 90 + sum(map(ord, name)) % 8 if TOKEN.search(name) and value >= VOCABULARY else value
    if not isinstance(value, (list, tuple)) or not value:
        return value
    if name.endswith(("layer_types", "layers_type")):
        return [value[0], value[-1]] if len(value) > 2 else value
    if not all(type(item) is int for item in value):
        return value
    if name in DEPTHS:
        return [1] * (len(value) - 1) + [2]
    if name in HEADS:
        return [min(item, 2) for item in value]
    if WIDTHS.search(name) and max(value) > 64:
        return [16 * min(stage, 4) for stage in range(1, len(value) + 1)]
    return value
