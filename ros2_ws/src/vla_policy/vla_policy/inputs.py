"""What the network reads, as tensors: a batch that can be moved, sliced and joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vla_policy.errors import VlaError
from vla_policy.types import Observation


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyInputs:
    """A batch of observations. B batch, C cameras, H and W pixels, L prompt tokens, S state."""

    images_BCHW3: Tensor
    """RGB, uint8; H and W are multiples of the network's image size."""
    prompt_BL: Tensor
    """Token ids without BOS, right-padded, int64."""
    prompt_mask_BL: Tensor
    """False on padding, bool; stays on the CPU, so that asking whether there is padding waits for no device."""
    state_BS: Tensor
    """Joint state normalised to [-1, 1], float32."""

    def __len__(self) -> int:
        """Observations in the batch."""
        return self.prompt_BL.shape[0]

    @property
    def is_padded(self) -> bool:
        """Whether a prompt is shorter than the longest."""
        return not bool(self.prompt_mask_BL.all())

    def mask_if_padded(self) -> Tensor | None:
        """The mask on the device of the prompts; None where nothing is padded."""
        return self.prompt_mask_BL.to(self.prompt_BL.device, non_blocking=True) if self.is_padded else None

    def __getitem__(self, index: slice | Tensor) -> PolicyInputs:
        """Rows of the batch, chosen by a slice, by numbers or by a boolean mask."""
        return self._map(lambda tensor: tensor[index.to(tensor.device) if isinstance(index, Tensor) else index])

    def each(self) -> list[PolicyInputs]:
        """Its rows as batches of one, which share its memory, without the padding of their prompts."""
        lengths, width = self.prompt_mask_BL.sum(1).tolist(), self.prompt_BL.shape[1]
        parts = (self.images_BCHW3, self.prompt_BL, self.prompt_mask_BL, self.state_BS)
        rows = zip(lengths, *(part[:, None].unbind() for part in parts), strict=True)
        return [
            PolicyInputs(
                images_BCHW3=images,
                prompt_BL=prompt if length == width else prompt[:, :length],
                prompt_mask_BL=mask if length == width else mask[:, :length],
                state_BS=state,
            )
            for length, images, prompt, mask, state in rows
        ]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PolicyInputs:
        """The same batch on `device`, all but the mask."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return dataclasses.replace(moved, prompt_mask_BL=self.prompt_mask_BL)

    @staticmethod
    def cat(batches: Sequence[PolicyInputs]) -> PolicyInputs:
        """Join batches; prompts are padded to the longest."""
        longest = max(batch.prompt_BL.shape[1] for batch in batches)

        def pad(prompt_BL: Tensor) -> Tensor:
            return functional.pad(prompt_BL, (0, longest - prompt_BL.shape[1]))

        return PolicyInputs(
            images_BCHW3=torch.cat([batch.images_BCHW3 for batch in batches]),
            prompt_BL=torch.cat([pad(batch.prompt_BL) for batch in batches]),
            prompt_mask_BL=torch.cat([pad(batch.prompt_mask_BL) for batch in batches]),
            state_BS=torch.cat([batch.state_BS for batch in batches]),
        )

    def _map(self, function: Callable[[Tensor], Tensor]) -> PolicyInputs:
        return PolicyInputs(**{field.name: function(getattr(self, field.name)) for field in dataclasses.fields(self)})


class Row(NamedTuple):
    """One observation of a batch, which it keeps alive: cheaper than a batch of one, until that is asked for."""

    batch: PolicyInputs
    number: int

    def alone(self) -> PolicyInputs:
        """A batch of one that shares the memory, without the padding of its prompt."""
        rows = slice(self.number, self.number + 1)
        length = int(self.batch.prompt_mask_BL[self.number].sum())
        return PolicyInputs(
            images_BCHW3=self.batch.images_BCHW3[rows],
            prompt_BL=self.batch.prompt_BL[rows, :length],
            prompt_mask_BL=self.batch.prompt_mask_BL[rows, :length],
            state_BS=self.batch.state_BS[rows],
        )


def stack_images(observations: Sequence[Observation], camera_names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Gather the images of some cameras, shape (B, C, H, W, 3).

    Raises:
        VlaError: a camera is missing, or images differ in size.
    """
    for seen in observations:
        if missing := [name for name in camera_names if name not in seen.images]:
            there = ", ".join(seen.images) or "none"
            raise VlaError(f"the observation has no camera '{missing[0]}'; it has {there}")
    images = [[seen.images[name] for name in camera_names] for seen in observations]
    shapes = {image.shape for row in images for image in row}
    if len(shapes) != 1:
        raise VlaError(f"images of one batch must have one size, not {sorted(shapes)}; crop and resize them alike")
    return np.array(images)


def to_pixels(images_BCHW3: npt.NDArray[np.uint8] | Tensor, expected: tuple[int, int], device: torch.device) -> Tensor:
    """Images as a tensor on a device: a copy, unless they are a tensor there already.

    Args:
        images_BCHW3: Bytes.
        expected: B and C.
        device: Of the network.

    Raises:
        VlaError: they have another type or shape.
    """
    is_bytes = images_BCHW3.dtype in (np.uint8, torch.uint8)
    if not is_bytes or images_BCHW3.ndim != 5 or images_BCHW3.shape[:2] != expected:
        shape = tuple(images_BCHW3.shape)
        raise VlaError(f"images are {images_BCHW3.dtype} {shape}; expected uint8 {(*expected, 'H', 'W', 3)}")
    return images_BCHW3.to(device) if isinstance(images_BCHW3, Tensor) else torch.tensor(images_BCHW3, device=device)
