"""OpenVLA-OFT's regression head: the hidden states of one step's placeholders to that step's action.

Such checkpoints answer, and more precisely than by tokens, but they cannot be trained by RL: a regressed action has no
probability, and the language-model head beside it never learned action tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

NUM_BLOCKS = 2


class L1Head(nn.Module):
    """Layer norm, two layers around residual blocks, layer norm; names as published."""

    def __init__(self, hidden_size: int, action_dim: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(hidden_size * action_dim)
        self.fc1 = nn.Linear(hidden_size * action_dim, hidden_size)
        self.mlp_resnet_blocks = nn.ModuleList(_Block(hidden_size) for _ in range(NUM_BLOCKS))
        self.layer_norm2 = nn.LayerNorm(hidden_size)
        self.fc2 = nn.Linear(hidden_size, action_dim)

    def forward(self, hidden_BKX: Tensor) -> Tensor:
        """Regress actions in [-1, 1] or a little beyond, values_BKA; X is A times the hidden size."""
        features = functional.relu(self.fc1(self.layer_norm1(hidden_BKX)))
        for block in self.mlp_resnet_blocks:
            features = block(features)
        return self.fc2(self.layer_norm2(features))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        return features + self.ffn(features)
