"""OpenVLA's action tokens: 256 bins over [-1, 1], one token a number.

Two numberings of the same bins. Token ids are what published checkpoints speak: the last 256 ids of the vocabulary,
and a larger id is a smaller action. Bin indices 0..255 are those ids counted from the first, so that a head of 256
logits and the matching slice of a full vocabulary line up. There are 256 ids but 255 centres: the first two ids mean
the same value, as in OpenVLA.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError

NUM_BINS = 256


class ActionTokenizer:
    """Numbers in [-1, 1] to action tokens and back, in either numbering."""

    def __init__(self, vocab_size: int = 32000) -> None:
        self.vocab_size = vocab_size
        """Size of the text vocabulary the action ids are the last 256 of, without padding."""
        self.first_id = vocab_size - NUM_BINS
        """Token id of bin index 0."""
        self._edges = np.linspace(-1.0, 1.0, NUM_BINS)
        midpoints = (self._edges[:-1] + self._edges[1:]) / 2
        self.centres: npt.NDArray[np.float32] = midpoints[self._midpoint(np.arange(NUM_BINS))].astype(np.float32)
        """Value of each bin index, shape (256,), falling; the expectation over bins is `softmax(logits) @ centres`."""
        self.centres.setflags(write=False)

    def encode(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Token ids of `values`; what lies outside [-1, 1] is clipped.

        Raises:
            VlaError: a value is not finite.
        """
        return self.encode_index(values) + self.first_id

    def decode(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Values of token ids; ids outside the action range count as the nearest one."""
        return self.decode_index(np.asarray(ids, dtype=np.int64) - self.first_id)

    def encode_index(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Bin indices 0..255 of `values`, in the order of the logits."""
        clipped = np.minimum(np.maximum(np.asarray(values, dtype=np.float64), -1.0), 1.0)
        if not np.isfinite(clipped).all():
            raise VlaError("an action is NaN; check the recording it came from")
        return NUM_BINS - np.digitize(clipped, self._edges).astype(np.int64)

    def decode_index(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Values of bin indices."""
        return self.centres[np.minimum(np.maximum(np.asarray(indices, dtype=np.int64), 0), NUM_BINS - 1)]

    @staticmethod
    def _midpoint(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.minimum(NUM_BINS - 1 - indices, NUM_BINS - 2)
