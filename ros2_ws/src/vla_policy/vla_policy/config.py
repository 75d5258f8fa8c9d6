"""Everything that decides the shape and the reading of a policy network.

`PolicyConfig` is what every network shares, `VlaConfig` the networks we design, stored as `config.json`;
`openvla.config.OpenVlaConfig` is the published one.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar, Literal, get_args

from vla_policy.action_frame import ACTION_FRAMES, ActionFrame
from vla_policy.errors import VlaError
from vla_policy.normalization import SCHEMES, Scheme

Placeholders = Literal["zero", "learned"]
Decoding = Literal["expectation", "argmax", "sample"]
PLACEHOLDERS: tuple[str, ...] = get_args(Placeholders)
DECODINGS: tuple[str, ...] = get_args(Decoding)

OPENVLA_TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"

_MODEL_TYPE = "vla_policy"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """What those who ask a policy network, of whatever design, must know of it."""

    reads_all_cameras: ClassVar[bool] = True
    """Whether the robot may have no camera that the network does not read."""
    state_is_joints: ClassVar[bool] = True
    """Whether the state has one number a joint."""
    scales_images: ClassVar[bool] = False
    """Whether the network wants images as the camera has them, and scales them itself."""

    camera_names: tuple[str, ...]
    """Order in which the network reads the images."""
    image_size: int
    """Side of the square image the vision encoder sees [px]."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int

    chunk_length: int
    """Steps in an action chunk (K)."""
    action_dim: int
    """Numbers in an action (A)."""
    use_proprio: bool = True
    """Read the joint state as one token."""
    state_dim: int
    """Numbers in the joint state (S)."""

    text_vocab_size: int = 512
    max_prompt_tokens: int = 64
    prompt_template: str = "{instruction}"
    bos_id: int = 1
    stop_id: int = 2
    prompt_end_id: int = 3
    """Token that ends every prompt; the first action is read there. 29871 with Llama's tokenizer."""

    action_frame: ActionFrame = "relative"
    normalisation: Scheme = "bounds"
    statistics_key: str = "demonstrations"
    """Entry of `dataset_statistics.json` to un-normalise with."""
    placeholders: Placeholders = "learned"
    """'zero' as OpenVLA-OFT, or 'learned': an embedding of the step plus one of the dimension."""
    decoding: Decoding = "expectation"
    """How `VlaPolicy.infer` turns logits into actions unless told otherwise."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from, naming the field.

        Raises:
            VlaError: a field has a value it cannot have.
        """
        for field, allowed in (
            ("action_frame", ACTION_FRAMES),
            ("normalisation", SCHEMES),
            ("placeholders", PLACEHOLDERS),
            ("decoding", DECODINGS),
        ):
            if getattr(self, field) not in allowed:
                raise VlaError(f"config: {field} is '{getattr(self, field)}'; choose one of {', '.join(allowed)}")
        if "{instruction}" not in self.prompt_template:
            raise VlaError("config: prompt_template lacks '{instruction}'")
        if self.hidden_size % (2 * self.num_heads):
            raise VlaError(f"config: hidden_size {self.hidden_size} must be an even multiple of num_heads")
        for field in ("bos_id", "stop_id", "prompt_end_id"):
            if not 0 <= getattr(self, field) < self.text_vocab_size:
                raise VlaError(f"config: {field} {getattr(self, field)} lies outside 0..text_vocab_size - 1")

    @property
    def predicts_tokens(self) -> bool:
        """Whether there are bins to choose among, and so log-probabilities."""
        return True

    def image_size_from(self, camera_size: int) -> int:
        """Side of the images to hand over of cameras of that size [px]."""
        return camera_size if self.scales_images else self.image_size

    @property
    def num_cameras(self) -> int:
        """Images in one observation."""
        return len(self.camera_names)

    @property
    def num_action_tokens(self) -> int:
        """Placeholders in the sequence, K * A."""
        return self.chunk_length * self.action_dim


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VlaConfig(PolicyConfig):
    """One policy network of our own design. Presets are functions in `presets`.

    Images larger than `image_size` are averaged down to it.
    """

    vision_channels: tuple[int, ...]
    """Output channels of the stride-2 convolutions, first to last."""
    num_vision_residuals: int = 1
    """Residual convolutions after those."""
    num_image_tokens: int = 16
    """Slots, and so tokens, of one image."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from, naming the field.

        Raises:
            VlaError: a field has a value it cannot have.
        """
        PolicyConfig.__post_init__(self)  # super() does not know the class that `slots` makes anew
        if not self.camera_names or not self.vision_channels or self.image_size % self.feature_stride:
            raise VlaError(
                f"config: image_size {self.image_size} must be a multiple of the feature stride {self.feature_stride}, "
                "with at least one camera and one convolution"
            )

    @property
    def feature_stride(self) -> int:
        """Side of the square of pixels that one position of the feature map stands for [px]."""
        return 2 ** len(self.vision_channels)

    def to_json(self) -> str:
        """The text stored as `config.json`."""
        return json.dumps({"model_type": _MODEL_TYPE, **dataclasses.asdict(self)}, indent=2)

    @staticmethod
    def from_json(text: str) -> VlaConfig:
        """Read what `to_json` wrote.

        Raises:
            VlaError: the text is no config, or a key is missing or unknown (named).
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            kind = fields.pop("model_type", None)
        except (ValueError, AttributeError, TypeError) as error:
            raise VlaError(f"config.json cannot be read ({error}); restore it from the original checkpoint") from error
        if kind != _MODEL_TYPE:
            raise VlaError(f"config.json describes a '{kind}' model; only '{_MODEL_TYPE}' checkpoints load here")
        known = {field.name for field in dataclasses.fields(VlaConfig)}
        if unknown := sorted(set(fields) - known):
            raise VlaError(f"config.json has unknown keys {', '.join(unknown)}; it was written by another version")
        try:
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
            }
            return VlaConfig(**values)
        except TypeError as error:
            raise VlaError(f"config.json is incomplete or has a value of the wrong type ({error})") from error
