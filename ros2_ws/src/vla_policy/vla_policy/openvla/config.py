"""Shape and reading of the published network; the folder keeps it spread over `config.json` and the weights."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from vla_policy.action_frame import ActionFrame
from vla_policy.config import OPENVLA_TEMPLATE, Decoding, Placeholders, PolicyConfig
from vla_policy.errors import VlaError
from vla_policy.tokenizer import NUM_BINS

ActionHead = Literal["tokens", "l1"]
Colours = tuple[tuple[float, float, float], ...]
"""Red, green and blue, for DINOv2 and for SigLIP."""

MEANS: Colours = ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))
STDS: Colours = ((0.229, 0.224, 0.225), (0.5, 0.5, 0.5))

PROMPT_END_ID = 29871
"""Llama's empty token, with which every prompt ends."""
VOCABULARY_PADDING = 64
"""Rows of the embedding that no text uses; the 256 before them are the actions'."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """One vision transformer. Its last block and what follows are dead weight: features come from the one before."""

    width: int
    num_blocks: int
    """Of the checkpoint, the dead one included."""
    mlp_width: int
    patch_size: int
    """Side of a patch [px]."""
    num_registers: int | None = None
    """Tokens beside the class token; None: there is no class token either."""
    num_heads: int = 16
    """Not to be read off the weights; both published towers have 16."""

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches."""
        return 0 if self.num_registers is None else 1 + self.num_registers


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImagePipeline:
    """What happens to a camera's image before the network, in this order; then it is scaled to the network's size."""

    rotate_180: bool = False
    jpeg_quality: int | None = None
    """Encode and decode at this quality, as the training images were."""
    lanczos: bool = False
    """Scale to the network's size by Lanczos3 with antialiasing, as TensorFlow does."""
    crop_area: float | None = None
    """Share of the image's area kept by a crop from its middle, scaled back up bilinearly."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise VlaError(f"image pipeline: jpeg_quality is {self.jpeg_quality}; choose 1 to 100, or none")
        if self.crop_area is not None and not 0.0 < self.crop_area <= 1.0:
            raise VlaError(f"image pipeline: crop_area is {self.crop_area}; choose a share above 0 and up to 1")

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> ImagePipeline:
        """Read what `dataclasses.asdict` made."""
        try:
            return ImagePipeline(**fields)
        except TypeError as error:
            raise VlaError(
                f"image pipeline: {error}; known are rotate_180, jpeg_quality, lanczos, crop_area"
            ) from error


LIBERO_IMAGES = ImagePipeline(jpeg_quality=95, lanczos=True, crop_area=0.9)
"""For images that stand upright, as our LIBERO hands them out; LIBERO's own hang upside down (`rotate_180`)."""
ROBOTWIN_IMAGES = ImagePipeline(crop_area=0.9)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenVlaConfig(PolicyConfig):
    """Two vision towers, a projector of three layers, Llama 2."""

    reads_all_cameras: ClassVar[bool] = False
    state_is_joints: ClassVar[bool] = False
    scales_images: ClassVar[bool] = True

    dinov2: TowerConfig
    siglip: TowerConfig
    num_kv_heads: int
    images: ImagePipeline
    means: Colours = MEANS
    stds: Colours = STDS
    action_head: ActionHead = "tokens"
    vocabulary_padding: int = VOCABULARY_PADDING

    text_vocab_size: int = 32064
    max_prompt_tokens: int = 256
    prompt_template: str = OPENVLA_TEMPLATE
    prompt_end_id: int = PROMPT_END_ID
    action_frame: ActionFrame = "absolute"
    placeholders: Placeholders = "zero"
    decoding: Decoding = "argmax"

    def __post_init__(self) -> None:
        """Refuse what no network can be built from, naming the field.

        Raises:
            VlaError: a field has a value it cannot have.
        """
        PolicyConfig.__post_init__(self)  # super() does not know the class that `slots` makes anew
        if not self.camera_names:
            raise VlaError("config: camera_names is empty; OpenVLA reads one image or more")
        if self.num_heads % self.num_kv_heads:
            raise VlaError(f"config: {self.num_heads} heads cannot share {self.num_kv_heads} key-value heads")
        for name, tower in (("dinov2", self.dinov2), ("siglip", self.siglip)):
            if self.image_size % tower.patch_size or tower.width % tower.num_heads or tower.num_blocks < 2:
                raise VlaError(
                    f"config: {name} cannot be {tower.width} wide with {tower.num_heads} heads, {tower.num_blocks} "
                    f"blocks and patches of {tower.patch_size} px in an image of {self.image_size}"
                )
        if self.image_size // self.dinov2.patch_size != self.image_size // self.siglip.patch_size:
            raise VlaError("config: the two towers must cut an image into equally many patches")
        if self.first_action_id < 0:
            raise VlaError(f"config: a vocabulary of {self.text_vocab_size} leaves no room for {NUM_BINS} actions")

    @property
    def predicts_tokens(self) -> bool:
        """Whether there are bins to choose among, and so log-probabilities."""
        return self.action_head == "tokens"

    @property
    def num_image_tokens(self) -> int:
        """Patches, and so tokens, of one image."""
        return (self.image_size // self.dinov2.patch_size) ** 2

    @property
    def first_action_id(self) -> int:
        """Row of the language model's head that bin 0 has."""
        return self.text_vocab_size - self.vocabulary_padding - NUM_BINS
