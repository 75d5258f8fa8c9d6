"""What was seen last, and whether it is fresh enough to act on."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

from vla_policy.camera_image import fit_image
from vla_policy.embodiment import Embodiment
from vla_policy.types import Image, Observation, Vector

AHEAD = 0.05
"""Stamps may be this far ahead of the clock [s]: two computers of one robot are never quite in step."""
_REMEMBERED = 400
"""Joint states kept: two seconds at 200 Hz, longer than images take to arrive."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    image: Image
    stamp: float


class Observer:
    """The newest image of every camera, the joint states of late, the instruction.

    Not made for several threads; whoever shares one brings a lock.
    """

    def __init__(self, embodiment: Embodiment, max_image_age: float, max_joint_age: float) -> None:
        """Start without having seen anything.

        Args:
            embodiment: Owner of the cameras.
            max_image_age: Older images are not acted on [s].
            max_joint_age: Nor are older joint states [s].
        """
        self._cameras = embodiment.cameras
        self._max_image_age = max_image_age
        self._max_joint_age = max_joint_age
        self.instruction = ""
        self._unreadable: dict[str, str] = {}
        self.forget()

    def forget(self) -> None:
        """Drop everything but the instruction."""
        self._images: dict[str, _Seen] = {}
        self._joints: collections.deque[tuple[float, Vector]] = collections.deque(maxlen=_REMEMBERED)

    def see(self, camera: str, image: Image, stamp: float) -> None:
        """Take an image, taken at `stamp` [s]."""
        self._images[camera] = _Seen(image, stamp)
        self._unreadable.pop(camera, None)

    def feel(self, state: Vector, stamp: float) -> None:
        """Take the joints as measured at `stamp` [s]."""
        self._joints.append((stamp, state))
        self._unreadable.pop("", None)

    def misread(self, source: str, problem: str) -> None:
        """A message of a camera (or of the joints: "") could not be read; a later one that can makes up for it."""
        self._unreadable[source] = problem

    def problem(self, now: float) -> str | None:
        """Why there is nothing to act on, naming the first source that is missing or too old; None: there is."""
        if self._unreadable:
            return next(iter(self._unreadable.values()))
        stamps = {f"image from camera {camera.name}": self._stamp(camera.name) for camera in self._cameras}
        limits = dict.fromkeys(stamps, self._max_image_age)
        stamps["joint states"] = self._joints[-1][0] if self._joints else None
        limits["joint states"] = self._max_joint_age
        for source, stamp in stamps.items():
            if stamp is None:
                return f"no {source} yet"
            if now - stamp > limits[source]:
                return f"no {source} for {now - stamp:.1f} s"
            if stamp - now > AHEAD:
                return f"{source} is {stamp - now:.2f} s ahead of this computer's clock; let one keep the other's time"
        return None if self.instruction else "no instruction; publish one on /instruction"

    def look(self, after: float) -> Observation | None:
        """The newest of everything, or None while a source has nothing that was seen at `after` [s] or later.

        The joints are those measured nearest in time to the oldest of the images, whose stamp the observation bears.
        """
        seen = [self._images.get(camera.name) for camera in self._cameras]
        if not self._joints or self._joints[-1][0] < after:
            return None
        images = {camera.name: one.image for camera, one in zip(self._cameras, seen, strict=True) if one is not None}
        stamp = min((one.stamp for one in seen if one is not None), default=after)
        if len(images) < len(seen) or stamp < after:
            return None
        _, state = min(self._joints, key=lambda measured: abs(measured[0] - stamp))
        return Observation(images=images, state=state, instruction=self.instruction, stamp=stamp)

    def fit(self, observation: Observation) -> Observation:
        """The observation with images of the size the policy was made for.

        Raises:
            VlaError: a camera's images are too small or too narrow.
        """
        images: Mapping[str, Image] = {
            camera.name: fit_image(observation.images[camera.name], camera) for camera in self._cameras
        }
        return dataclasses.replace(observation, images=images)

    def _stamp(self, camera: str) -> float | None:
        seen = self._images.get(camera)
        return seen.stamp if seen else None
