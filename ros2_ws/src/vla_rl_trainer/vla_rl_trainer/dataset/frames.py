"""All frames of many episodes in memory: what supervised fine-tuning draws its batches from."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from piper_twin.demonstrate import Demonstration
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset.episode import EpisodeData
from vla_rl_trainer.dataset.images import square_images

# N = frames, C = cameras, H = height, W = width, S = state, A = action, B = batch, K = chunk length
Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FrameTable:
    """One row a frame, and the actions between and after them; both in the order of their episodes.

    Frames may be fewer than actions: M actions, one a control period, N of them with a frame.
    """

    cameras: tuple[str, ...]
    """Order of the C axis."""
    images_NCHW3: npt.NDArray[np.uint8]
    state_NS: npt.NDArray[np.float32]
    action_MA: npt.NDArray[np.float32]
    action_N: Indices
    """Index of the frame's own action."""
    end_N: Indices
    """Index one past the last action of the same episode."""
    episode_N: Indices
    """Number of the episode, from 0."""
    instructions: list[str]
    instruction_N: Indices
    """Index into `instructions`."""

    def __len__(self) -> int:
        """Number of frames N."""
        return len(self.state_NS)

    def chunks(self, indices: npt.ArrayLike, chunk_length: int) -> npt.NDArray[np.float32]:
        """The next actions from each frame on.

        Args:
            indices: B frame indices.
            chunk_length: K actions a chunk. The last action of an episode is repeated past its end.

        Returns:
            Actions (B, K, A), the first of which belongs to the frame itself.

        Raises:
            VlaError: `chunk_length` is not positive.
        """
        if chunk_length < 1:
            raise VlaError(f"chunk length {chunk_length} is not positive")
        indices_B = np.asarray(indices, dtype=np.int64)
        wanted_BK = self.action_N[indices_B, None] + np.arange(chunk_length)
        return self.action_MA[np.minimum(wanted_BK, self.end_N[indices_B, None] - 1)]

    def instructions_of(self, indices: npt.ArrayLike) -> list[str]:
        """The instruction of each frame."""
        return [self.instructions[number] for number in self.instruction_N[np.asarray(indices, dtype=np.int64)]]

    @staticmethod
    def from_episodes(
        episodes: Sequence[EpisodeData], cameras: Embodiment | Sequence[str], image_size: int | None
    ) -> FrameTable:
        """Put episodes into one table.

        Args:
            episodes: At least one.
            cameras: The embodiment, or camera names, whose order the C axis takes.
            image_size: Side of the square images [px]; None keeps them as they are, then all cameras must agree.

        Raises:
            VlaError: no episode, a camera missing, or images of unlike sizes.
        """
        names = cameras.camera_names if isinstance(cameras, Embodiment) else tuple(cameras)
        if not episodes:
            raise VlaError("there are no episodes to train on; collect demonstrations first")
        lengths = [len(episode) for episode in episodes]
        instructions = list(dict.fromkeys(episode.instruction for episode in episodes))
        numbers = [instructions.index(episode.instruction) for episode in episodes]
        return FrameTable(
            cameras=names,
            images_NCHW3=_stack_images(episodes, names, image_size),
            state_NS=np.concatenate([episode.state for episode in episodes]).astype(np.float32, copy=False),
            action_N=np.arange(sum(lengths)),
            action_MA=np.concatenate([episode.action for episode in episodes]).astype(np.float32, copy=False),
            episode_N=np.repeat(np.arange(len(episodes)), lengths),
            end_N=np.repeat(np.cumsum(lengths), lengths),
            instructions=instructions,
            instruction_N=np.repeat(np.asarray(numbers, dtype=np.int64), lengths),
        )

    @staticmethod
    def from_demonstrations(demonstrations: Sequence[Demonstration], embodiment: Embodiment) -> FrameTable:
        """Put demonstrations of the twin into one table; their frames may be thinned out."""
        lengths = [len(one.action_TA) for one in demonstrations]
        starts = np.cumsum([0, *lengths[:-1]])
        looks = [len(one.looked_L) for one in demonstrations]
        instructions = list(dict.fromkeys(one.instruction for one in demonstrations))
        numbers = np.array([instructions.index(one.instruction) for one in demonstrations], dtype=np.int64)
        return FrameTable(
            cameras=embodiment.camera_names,
            images_NCHW3=np.concatenate([one.images_LCHW3 for one in demonstrations]),
            state_NS=np.concatenate([one.state_TS[one.looked_L] for one in demonstrations]),
            action_MA=np.concatenate([one.action_TA for one in demonstrations]),
            action_N=np.concatenate([start + one.looked_L for start, one in zip(starts, demonstrations, strict=True)]),
            end_N=np.repeat(np.cumsum(lengths), looks),
            episode_N=np.repeat(np.arange(len(demonstrations)), looks),
            instructions=instructions,
            instruction_N=np.repeat(numbers, looks),
        )

    def save(self, path: Path) -> None:
        """Write the table as one uncompressed .npz file, in one move."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.rename(path)

    @staticmethod
    def load(path: Path) -> FrameTable:
        """Read what `save` wrote.

        Raises:
            VlaError: the file is damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                fields = {name: arrays[name] for name in arrays.files}
            fields["cameras"] = tuple(str(name) for name in fields["cameras"])
            fields["instructions"] = [str(text) for text in fields["instructions"]]
            return FrameTable(**fields)
        except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise VlaError(f"{path} is damaged ({error}); delete it, and it is made again") from error

    @staticmethod
    def concatenate(tables: list[FrameTable]) -> FrameTable:
        """One table after the other; episodes, ends and instructions are renumbered.

        Args:
            tables: Emptied: each table is let go once its images are copied, so that at the peak memory holds all
                tables and one more, not all of them twice.

        Raises:
            VlaError: no table, or tables of other cameras, image sizes or joints.
        """
        if not tables:
            raise VlaError("there are no frames to train on; collect demonstrations first")
        layouts = {
            (table.cameras, table.images_NCHW3.shape[1:], table.state_NS.shape[1:], table.action_MA.shape[1:])
            for table in tables
        }
        if len(layouts) != 1:
            raise VlaError(f"datasets with unlike cameras, image sizes or joints cannot be mixed: {sorted(layouts)}")
        instructions = list(dict.fromkeys(text for table in tables for text in table.instructions))
        actions_before = np.cumsum([0, *(len(table.action_MA) for table in tables)])
        episodes_before = np.cumsum([0, *(int(table.episode_N.max(initial=-1)) + 1 for table in tables)])
        renumbered = [
            np.asarray([instructions.index(text) for text in table.instructions], dtype=np.int64)[table.instruction_N]
            for table in tables
        ]
        return FrameTable(
            cameras=tables[0].cameras,
            state_NS=np.concatenate([table.state_NS for table in tables]),
            action_MA=np.concatenate([table.action_MA for table in tables]),
            action_N=np.concatenate([t.action_N + n for t, n in zip(tables, actions_before, strict=False)]),
            episode_N=np.concatenate([t.episode_N + n for t, n in zip(tables, episodes_before, strict=False)]),
            end_N=np.concatenate([t.end_N + n for t, n in zip(tables, actions_before, strict=False)]),
            instructions=instructions,
            instruction_N=np.concatenate(renumbered),
            images_NCHW3=_take_images(tables),  # last: nothing is left in the tables then
        )


def _take_images(tables: list[FrameTable]) -> npt.NDArray[np.uint8]:
    """The images of all tables, each of which is given up once its own are copied."""
    taken = np.empty((sum(map(len, tables)), *tables[0].images_NCHW3.shape[1:]), dtype=np.uint8)
    start = 0
    while tables:
        images = tables.pop(0).images_NCHW3
        taken[start : start + len(images)] = images
        start += len(images)
    return taken


def _stack_images(
    episodes: Sequence[EpisodeData], cameras: Sequence[str], image_size: int | None
) -> npt.NDArray[np.uint8]:
    """Fill (N, C, H, W, 3) camera by camera, without a second copy of everything."""
    stacked: npt.NDArray[np.uint8] | None = None
    start = 0
    for episode in episodes:
        for number, camera in enumerate(cameras):
            if camera not in episode.images:
                raise VlaError(f"camera {camera} is missing; the episode has {', '.join(episode.images) or 'none'}")
            images = episode.images[camera]
            images = images if image_size is None else square_images(images, image_size)
            if stacked is None:
                total = sum(len(episode) for episode in episodes)
                stacked = np.empty((total, len(cameras), *images.shape[1:]), dtype=np.uint8)
            if images.shape[1:] != stacked.shape[2:]:
                raise VlaError(
                    f"camera {camera} gives images of {images.shape[1:3]}, others {stacked.shape[2:4]}; set one size"
                )
            stacked[start : start + len(episode), number] = images
        start += len(episode)
    if stacked is None:
        raise VlaError("a policy needs at least one camera; the dataset has none")
    return stacked
