"""The sequence that makes a language model a policy: OpenVLA-OFT's, whatever the images and weights come from.

[BOS | image tokens | proprio token | prompt | K*A placeholders | stop] goes through a Llama whose attention is made
bidirectional, and all action tokens come out of one forward pass. The next-token shift of a language model is kept:
the first action is read at the last prompt token, every other one at the placeholder before its own.

Nothing is computed that nobody reads: the head has 256 rows and sees K*A positions, and a batch without padding runs
without a mask, which lets the fast attention kernels in. `compute` takes tensors alone and does not look at their
values, so that shapes decide everything: what `torch.compile` and CUDA graphs ask for.

B batch, C cameras, H and W pixels, L prompt tokens, T all tokens, D hidden, K steps, A dimensions, V bins, S state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_policy import precision
from vla_policy.config import PolicyConfig
from vla_policy.inputs import PolicyInputs
from vla_policy.tokenizer import NUM_BINS

if TYPE_CHECKING:
    from transformers import LlamaModel

RMS_NORM_EPSILON = 1e-6
"""Of OpenVLA's checkpoints too, although Llama 2's own is 1e-5."""


class ActionSequence(nn.Module):
    """Observations in, logits over the action bins out; subclasses say what the tokens are made of."""

    config: PolicyConfig
    llama: LlamaModel
    head: nn.Linear

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
        mask_BL = inputs.prompt_mask_BL if inputs.is_padded else None
        return self.compute(inputs.images_BCHW3, inputs.prompt_BL, mask_BL, inputs.state_BS)

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
            before, length = prefix_BTD.shape[1], prompt_BL.shape[1]
            if prompt_mask_BL is None:
                hidden_BTD = self.hidden_states(tokens_BTD)
                first = before + length - 1
                return hidden_BTD[:, first : first + config.num_action_tokens]
            after = config.num_action_tokens + 1
            hidden_BTD = self.hidden_states(tokens_BTD, functional.pad(prompt_mask_BL, (before, after), value=True))
        rows_B = torch.arange(batch, device=hidden_BTD.device)
        first_B1D = hidden_BTD[rows_B, before + prompt_mask_BL.sum(1) - 1, None]
        start = before + length
        return torch.cat((first_B1D, hidden_BTD[:, start : start + config.num_action_tokens - 1]), dim=1)

    def hidden_states(self, tokens_BTD: Tensor, is_token_BT: Tensor | None = None) -> Tensor:
        """Run the language model with bidirectional attention.

        Padding is neither attended to nor counted in the positions, so results do not depend on how far a batch is
        padded. A 4-D mask replaces the causal one that `transformers` would make; without padding there is none.
        """
        attention = precision.attention(tokens_BTD.device)
        if self.llama.config._attn_implementation != attention:
            self.llama.set_attn_implementation(attention)
        shape = tokens_BTD.shape[:2]
        mask_B11T, positions_BT = None, torch.arange(shape[1], device=tokens_BTD.device)[None]
        if is_token_BT is not None:
            mask_B11T = tokens_BTD.new_zeros(shape).masked_fill(~is_token_BT, float("-inf"))[:, None, None, :]
            positions_BT = (is_token_BT.cumsum(1) - 1).clamp(min=0)
        elif attention == "eager":  # without a mask it makes one of the square of the length
            mask_B11T = tokens_BTD.new_zeros(1, 1, 1, shape[1])
        output = self.llama(inputs_embeds=tokens_BTD, attention_mask=mask_B11T, position_ids=positions_BT)
        return output.last_hidden_state

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
    for layer in llama.layers:
        cast("Any", layer).self_attn.is_causal = False
    return llama
