"""The policy node, with a clock on its policy.

    python -m piper_bringup.ros.timed_policy_node answers.json --ros-args -p checkpoint:=runs/demo/checkpoints/last

writes when the policy was asked and when it had answered, observation by observation, once it is told to end.
"""

# pyright: basic
# ROS has no types.

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vla_policy.policy_source import load_policy
from vla_policy.ros.policy_node import PolicyNode
from vla_policy.ros.spin import run_node
from vla_policy.scheduling import take_short_turns
from vla_policy.types import ActionChunk, Observation, Policy


class TimedPolicy:
    """Asks a policy and notes the time."""

    def __init__(self, policy: Policy) -> None:
        """Wrap `policy`."""
        self._policy = policy
        self.answers: list[tuple[float, float, float]] = []
        """Stamp of the observation, when it was shown and when the answer was there, since the epoch [s]."""

    def infer(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """What the policy says."""
        asked = time.time()
        chunks = self._policy.infer(observations)
        self.answers.append((observations[0].stamp, asked, time.time()))
        return chunks


class TimedPolicyNode(PolicyNode):
    """Writes the times when it ends."""

    def __init__(self, file: Path) -> None:
        """Load the policy and go to work."""
        super().__init__()
        self._file = file
        loaded = load_policy(self.source)
        self._timed = TimedPolicy(loaded.policy)
        self.serve(dataclasses.replace(loaded, policy=self._timed))

    def destroy_node(self) -> None:
        """End first: what is thought meanwhile is written as well."""
        super().destroy_node()
        self._file.write_text(json.dumps(self._timed.answers), encoding="utf-8")


if __name__ == "__main__":
    take_short_turns()
    raise SystemExit(run_node(functools.partial(TimedPolicyNode, Path(sys.argv[1]))))
