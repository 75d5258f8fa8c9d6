"""The text side: instruction to prompt to token ids.

Wraps a `tokenizers` tokenizer, which is one `tokenizer.json` file and no code. The small presets train their own:
byte-level, so that every word can be written, and lower-casing, as OpenVLA's prompt does. A prompt ends with a fixed
token (29871 for Llama's tokenizer, `<act>` for ours), at which the network reads the first action.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from vla_policy.config import OPENVLA_TEMPLATE as OPENVLA_TEMPLATE
from vla_policy.errors import VlaError

PLAIN_TEMPLATE = "{instruction}"

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<act>")
"""Ids 0..3 of a tokenizer made here: padding, BOS, stop, end of prompt; 1 and 2 as in Llama's tokenizer."""


def train_tokenizer(texts: Iterable[str], vocab_size: int = 512) -> Tokenizer:
    """Make a small lower-casing byte-level BPE tokenizer for the given instructions.

    Unknown words fall back to single bytes; no text is ever refused.

    Args:
        texts: Instructions to find frequent words in.
        vocab_size: At most this many ids; 256 bytes and the special tokens are always there.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class PromptEncoder:
    """Instructions to right-padded token ids; repeated instructions are looked up."""

    def __init__(self, tokenizer: Tokenizer, template: str, end_id: int, max_tokens: int) -> None:
        """Bind a tokenizer to a prompt format.

        Args:
            tokenizer: Vocabulary; its own special-token rules are not used.
            template: Prompt with one `{instruction}`.
            end_id: Token that ends every prompt.
            max_tokens: Longest prompt accepted, the end token included.
        """
        self.tokenizer = tokenizer
        self._template = template
        self._end_id = end_id
        self._max_tokens = max_tokens
        self._cache: dict[str, tuple[int, ...]] = {}

    def prompt(self, instruction: str) -> str:
        """The text the network reads for `instruction`."""
        return self._template.replace("{instruction}", instruction.strip().lower())

    def encode(self, instructions: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Encode a batch.

        Returns:
            Token ids and mask (True on tokens, False on padding), both of shape (batch, longest prompt).

        Raises:
            VlaError: an instruction is too long.
        """
        rows = [self._ids(instruction) for instruction in instructions]
        lengths = np.array([len(row) for row in rows], np.int64)
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.fromiter((token for row in rows for token in row), np.int64, lengths.sum())
        return ids, mask

    def _ids(self, instruction: str) -> tuple[int, ...]:
        if instruction not in self._cache:
            ids = self.tokenizer.encode(self.prompt(instruction), add_special_tokens=False).ids
            if not ids or ids[-1] != self._end_id:
                ids.append(self._end_id)
            if len(ids) > self._max_tokens:
                raise VlaError(
                    f"the instruction '{instruction[:60]}' is {len(ids)} tokens long, this policy reads "
                    f"{self._max_tokens}; say it in fewer words"
                )
            self._cache[instruction] = tuple(ids)
        return self._cache[instruction]
