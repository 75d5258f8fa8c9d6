"""What a bag says of the episode in it: written by the recorder, read by whoever turns bags into a dataset.

It stands in the bag twice: as text on `topics.EPISODE_INFO`, first when recording starts and again when it ends, and as
the bag's custom data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from vla_policy.errors import VlaError

SUCCESS = "success"
FAILURE = "failure"
UNKNOWN = "unknown"
"""Nobody told: the recorder was killed or had to end the episode itself, or it still runs."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeInfo:
    """Everything about an episode that no sensor measures."""

    instruction: str
    task: str
    """Name of the task ("click_bell"); empty where none is known."""
    embodiment: str
    """Content of `embodiment.json`."""
    software: str
    """Commit or version of the recorder."""
    outcome: str = UNKNOWN
    reason: str = ""
    """Why the recorder ended the episode, when no operator did."""
    dropped: str = ""
    """Messages that came faster than the disk took them, by topic; empty when there were none."""

    def custom_data(self) -> dict[str, str]:
        """The fields as the texts that rosbag2 keeps with a bag."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The text on `topics.EPISODE_INFO`."""
        return json.dumps(self.custom_data())

    @staticmethod
    def of(texts: Mapping[str, Any], owner: str) -> EpisodeInfo:
        """Read what `custom_data` or `to_json` gave; texts of others are left aside.

        Raises:
            VlaError: a field is missing, so that another recorder made `owner` ("bag x").
        """
        names = [field.name for field in dataclasses.fields(EpisodeInfo)]
        try:
            return EpisodeInfo(**{name: str(texts[name]) for name in names})
        except KeyError as error:
            raise VlaError(f"{owner} does not tell its episode's {error.args[0]}; another recorder made it") from error
