"""The sequence that makes a language model a policy: OpenVLA-OFT's, whatever the images and weights come from.

[BOS | image tokens | proprio token | prompt | K*A placeholders | stop] goes through a Llama whose attention is made
bidirectional, and all action tokens come out of one forward pass. The next-token shift of a language model is kept:
the first action is read at the last prompt token, every other one at the placeholder before its own.

Nothing is computed that nobody reads: the head has 256 rows and sees K*A positions, so does the last layer after its
attention, and a batch without padding runs without a mask, which lets the fast attention kernels in. `compute` takes
tensors alone and does not look at their values, so that shapes decide everything: what `torch.compile` and CUDA graphs
ask for.

B batch, C cameras, H and W pixels, L prompt tokens, T all tokens, D hidden, K steps, A dimensions, V bins, S state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vla_policy import precision
from vla_policy.config import PolicyConfig
from vla_policy.inputs import PolicyInputs
from vla_policy.tokenizer import NUM_BINS

if TYPE_CHECKING:
    from transformers import LlamaModel

Rows = slice | Tensor
"""Tokens to read: the same of every sequence, or positions_BT."""

RMS_NORM_EPSILON = 1e-6
"""Of OpenVLA's checkpoints too, although Llama 2's own is 1e-5."""


class ActionSequence(nn.Module):
    """Observations in, logits over the action bins out; subclasses say what the tokens are made of."""

    config: PolicyConfig
    llama: LlamaModel
    head: nn.Linear
    recomputes: bool = False
    """Whether the backward pass computes again what is within a layer: a third more work for far less memory."""

    @property
    def num_fixed_tokens(self) -> int:
        """Length of the sequence without its prompt."""
        config: Any = self.config  # every kind has `num_image_tokens`, as a field or as a property
        images = config.num_cameras * config.num_image_tokens
        return 1 + images + config.use_proprio + config.num_action_tokens + 1

    def image_tokens(self, images_BCHW3: Tensor) -> Tensor:
        """Encode all cameras, tokens_BTD."""
        raise NotImplementedError

    def proprio_token(self, state_BS: Tensor) -> Tensor:
        """Encode the joint state, token_BD; only asked for where `config.use_proprio`."""
        raise NotImplementedError

    def placeholders(self) -> Tensor:
        """What stands where the actions are read, tokens_TD."""
        raise NotImplementedError

    def prepare(self, images_BCHW3: Tensor) -> Tensor:
        """What is done to camera images once, before they are kept for learning; uint8 to uint8."""
        return images_BCHW3

    def forward(self, inputs: PolicyInputs) -> Tensor:
        """Compute the logits of every action token.

        Returns:
            logits_BKAV in float32, V in the order of `ActionTokenizer.centres`.
        """
        return self.compute(inputs.images_BCHW3, inputs.prompt_BL, inputs.mask_if_padded(), inputs.state_BS)

    def recompute(self, wanted: bool) -> None:
        """Choose for all parts whether the backward pass computes again what is within a layer."""
        for module in self.modules():
            if hasattr(module, "recomputes"):
                cast("Any", module).recomputes = wanted

    def require_tokens(self) -> None:
        """Refuse, where there are no action tokens; subclasses say why."""

    def regress(self, inputs: PolicyInputs) -> Tensor:
        """Regress normalised actions, values_BKA; only asked for where `config` predicts no tokens."""
        raise NotImplementedError

    def compute(
        self, images_BCHW3: Tensor, prompt_BL: Tensor, prompt_mask_BL: Tensor | None, state_BS: Tensor
    ) -> Tensor:
        """Compute `forward` of tensors; no mask promises that no prompt is padded."""
        hidden_BTD = self.action_states(images_BCHW3, prompt_BL, prompt_mask_BL, state_BS)
        logits_BTV = functional.linear(hidden_BTD.float(), self.head.weight.float())
        config = self.config
        return logits_BTV.view(len(prompt_BL), config.chunk_length, config.action_dim, NUM_BINS)

    def action_states(
        self, images_BCHW3: Tensor, prompt_BL: Tensor, prompt_mask_BL: Tensor | None, state_BS: Tensor
    ) -> Tensor:
        """Last hidden states at the K*A positions where actions are read, hidden_BTD."""
        config, batch = self.config, len(prompt_BL)
        with precision.autocast(images_BCHW3.device, self.llama.embed_tokens.weight.dtype):
            prefix_BTD = self._prefix(images_BCHW3, prompt_BL, state_BS)
            tokens_BTD = torch.cat((prefix_BTD, self._embed(prompt_BL), self._suffix(batch)), dim=1)
            start = prefix_BTD.shape[1] + prompt_BL.shape[1]
            if prompt_mask_BL is None:
                rows = slice(start - 1, start - 1 + config.num_action_tokens)
                return self.llama.norm(self.hidden_states(tokens_BTD, rows))
            first_B = prefix_BTD.shape[1] + prompt_mask_BL.sum(1) - 1
            others_T = torch.arange(start, start + config.num_action_tokens - 1, device=first_B.device)
            rows_BT = torch.cat((first_B[:, None], others_T.expand(batch, -1)), dim=1)
            is_token_BT = functional.pad(
                prompt_mask_BL, (prefix_BTD.shape[1], config.num_action_tokens + 1), value=True
            )
            return self.llama.norm(self.hidden_states(tokens_BTD, rows_BT, is_token_BT))

    def hidden_states(self, tokens_BTD: Tensor, rows: Rows, is_token_BT: Tensor | None = None) -> Tensor:
        """Run the language model with bidirectional attention, up to its last norm, for the tokens of `rows`.

        Padding is neither attended to nor counted in the positions, so results do not depend on how far a batch is
        padded; without padding there is no mask. The layers are called one by one: the model's own forward would make
        a causal mask as soon as it is traced by `torch.compile`.
        """
        attention = precision.attention(tokens_BTD.device)
        if self.llama.config._attn_implementation != attention:
            self.llama.set_attn_implementation(attention)
        shape = tokens_BTD.shape[:2]
        mask_B11T, positions_BT = None, torch.arange(shape[1], device=tokens_BTD.device)[None]
        if is_token_BT is not None:
            mask_B11T = tokens_BTD.new_zeros(shape).masked_fill(~is_token_BT, float("-inf"))[:, None, None, :]
            positions_BT = (is_token_BT.cumsum(1) - 1).clamp(min=0)
        options = {"attention_mask": mask_B11T, "position_embeddings": self.llama.rotary_emb(tokens_BTD, positions_BT)}
        *layers, last = self.llama.layers
        for layer in layers:
            tokens_BTD = run_layer(layer, tokens_BTD, self.recomputes, **options)
        return run_layer(last, tokens_BTD, self.recomputes, rows=rows, **options)

    def _prefix(self, images_BCHW3: Tensor, prompt_BL: Tensor, state_BS: Tensor) -> Tensor:
        """BOS, image tokens and proprio token."""
        bos_B1D = self._embed(torch.full_like(prompt_BL[:, :1], self.config.bos_id))
        parts = [bos_B1D, self.image_tokens(images_BCHW3)]
        if self.config.use_proprio:
            parts.append(self.proprio_token(state_BS)[:, None])
        return torch.cat([part.to(bos_B1D.dtype) for part in parts], dim=1)

    def _suffix(self, batch: int) -> Tensor:
        """Placeholders and stop token."""
        stop_1D = self.llama.embed_tokens.weight[self.config.stop_id, None]
        return torch.cat((self.placeholders(), stop_1D)).expand(batch, -1, -1)

    def _embed(self, ids_BT: Tensor) -> Tensor:
        return self.llama.embed_tokens(ids_BT)


def run_layer(layer: nn.Module, tokens: Tensor, recomputes: bool, *arguments: Any, **options: Any) -> Tensor:
    """Run one transformer layer; what it computes within is kept for the backward pass, or computed again there."""
    if recomputes and torch.is_grad_enabled():
        return cast("Tensor", checkpoint(layer, tokens, *arguments, use_reentrant=False, **options))
    return layer(tokens, *arguments, **options)


def make_llama(config: PolicyConfig, num_kv_heads: int | None = None, std: float | None = None) -> LlamaModel:
    """A Llama with fresh weights from torch's global generator.

    Args:
        config: Its sizes.
        num_kv_heads: Heads of keys and values; as many as of queries by default.
        std: Of fresh weights, 1/sqrt(hidden) by default.
    """
    from transformers import LlamaConfig, LlamaModel  # takes seconds to import

    settings: dict[str, Any] = {
        "vocab_size": config.text_vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": num_kv_heads or config.num_heads,
        "rms_norm_eps": RMS_NORM_EPSILON,
        "initializer_range": std or config.hidden_size**-0.5,
        "use_cache": False,
        "is_causal": False,  # decides where no mask is given; the kernels ask the layers
    }
    llama = LlamaModel(LlamaConfig(**settings))
    _fuse_norms(llama, config.hidden_size)
    for layer in llama.layers:
        cast("Any", layer).self_attn.is_causal = False
    last = cast("Any", llama.layers[-1])
    last.__class__ = type("LastLayer", (type(last),), {"forward": _last_layer})  # nothing but what it computes
    return llama


def _fuse_norms(llama: nn.Module, hidden_size: int) -> None:
    """Replace the norms by torch's own, one kernel for what `transformers` writes out in seven, twice in float32.

    On a CPU the same numbers, forward and backward together in 1.2 instead of 2.8 ms (one core, 16 x 181 x 128).
    """
    for module in list(llama.modules()):
        for name, child in list(module.named_children()):
            if name.endswith("norm"):
                setattr(module, name, nn.RMSNorm(hidden_size, eps=RMS_NORM_EPSILON, dtype=child.weight.dtype))


def _last_layer(layer: Any, tokens_BTD: Tensor, rows: Rows, **options: Any) -> Tensor:
    """A layer of which only some rows are read: all tokens are attended to, what follows is done for those rows."""
    attended_BTD, _ = layer.self_attn(hidden_states=layer.input_layernorm(tokens_BTD), **options)
    if isinstance(rows, slice):
        tokens_BTD = (tokens_BTD + attended_BTD)[:, rows]
    else:
        batch_B1 = torch.arange(len(rows), device=rows.device)[:, None]
        tokens_BTD = (tokens_BTD + attended_BTD)[batch_B1, rows]
    return tokens_BTD + layer.mlp(layer.post_attention_layernorm(tokens_BTD))
