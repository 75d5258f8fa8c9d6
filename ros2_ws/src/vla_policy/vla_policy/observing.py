"""What was seen last, and whether it is fresh enough to act on."""

from __future__ import annotations

import collections
import dataclasses
import functools

from vla_policy.camera_image import fit_image
from vla_policy.embodiment import Camera, Embodiment
from vla_policy.types import Image, Observation, Vector

AHEAD = 0.05
"""Stamps may be this far ahead of the clock [s]: two computers of one robot are never quite in step."""
_REMEMBERED = 400
"""Joint states kept: two seconds at 200 Hz, longer than images take to arrive."""


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """What a camera sent."""

    camera: Camera
    image: Image
    stamp: float

    @functools.cached_property
    def fitted(self) -> Image:
        """At the size the policy was made for, which takes a millisecond, once.

        Raises:
            VlaError: it is too small or too narrow; names the camera.
        """
        return fit_image(self.image, self.camera)


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """Enough for an observation."""

    images: tuple[SeenImage, ...]
    state: Vector
    instruction: str
    stamp: float
    """Of the oldest image [s]."""

    def observation(self) -> Observation:
        """What the policy is shown.

        Raises:
            VlaError: an image is too small or too narrow; names the camera.
        """
        images = {seen.camera.name: seen.fitted for seen in self.images}
        return Observation(images=images, state=self.state, instruction=self.instruction, stamp=self.stamp)


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
        self._cameras = {camera.name: camera for camera in embodiment.cameras}
        self._max_image_age = max_image_age
        self._max_joint_age = max_joint_age
        self.instruction = ""
        self._unreadable: dict[str, str] = {}
        self.forget()

    def forget(self) -> None:
        """Drop everything but the instruction."""
        self._images: dict[str, SeenImage] = {}
        self._joints: collections.deque[tuple[float, Vector]] = collections.deque(maxlen=_REMEMBERED)

    def see(self, camera: str, image: Image, stamp: float) -> SeenImage:
        """Take an image, taken at `stamp` [s]."""
        self._images[camera] = seen = SeenImage(self._cameras[camera], image, stamp)
        self._unreadable.pop(camera, None)
        return seen

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
        stamps = {f"image from camera {name}": self._stamp(name) for name in self._cameras}
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

    def look(self, after: float) -> Look | None:
        """The newest of everything, or None while a source has nothing that was seen at `after` [s] or later.

        The joints are those measured nearest in time to the oldest of the images.
        """
        images = self.images(after)
        if len(images) < len(self._cameras) or not self._joints or self._joints[-1][0] < after:
            return None
        stamp = min(seen.stamp for seen in images)
        _, state = min(self._joints, key=lambda measured: abs(measured[0] - stamp))
        return Look(images=images, state=state, instruction=self.instruction, stamp=stamp)

    def has_seen_all(self, after: float) -> bool:
        """Whether every camera sent an image at `after` [s] or later."""
        return len(self.images(after)) == len(self._cameras)

    def images(self, after: float) -> tuple[SeenImage, ...]:
        """What cameras sent at `after` [s] or later."""
        seen = [self._images[name] for name in self._cameras if name in self._images]
        return tuple(one for one in seen if one.stamp >= after)

    def _stamp(self, camera: str) -> float | None:
        seen = self._images.get(camera)
        return seen.stamp if seen else None
