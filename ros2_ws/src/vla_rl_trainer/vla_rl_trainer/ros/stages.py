"""Where trials take place in a ROS graph: worlds of the twin that judge themselves, or a robot and its operator."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros.service_calls import ServiceCalls
from vla_rl_trainer.trials import Planned, Stage

_POLL = 0.05
"""Between two looks at the world [s]."""
_READY_TIME, _RETRY = 20.0, 0.5
"""Time for a robot to get ready, and between two tries [s]."""


class _Stage:
    """Starting and stopping, the same everywhere."""

    def __init__(self, calls: ServiceCalls) -> None:
        self._calls = calls
        self._started = 0.0

    def _ready_robot(self) -> None:
        """Release a robot that was stopped, enable a disabled one; arms that were just switched on take a while."""
        deadline = time.monotonic() + _READY_TIME
        while True:
            answers = [self._calls.trigger(name) for name in (topics.RELEASE, topics.ENABLE)]
            if all(success for success, _ in answers):
                return
            if time.monotonic() > deadline:
                raise VlaError(f"the robot does not get ready: {answers[-1][1]}")
            time.sleep(_RETRY)

    def start(self) -> None:
        """Let the policy begin."""
        self._calls.switch(topics.POLICY_RUN, True)
        self._started = time.monotonic()

    def stop(self) -> None:
        """Let the policy end; the robot holds."""
        self._calls.switch(topics.POLICY_RUN, False)

    def _passed(self) -> float:
        return time.monotonic() - self._started


class TwinStage(_Stage):
    """The twin, or emulated arms in it: reset by seed, judged by the task's predicate."""

    def __init__(self, calls: ServiceCalls, split: str) -> None:
        """Worlds of `split`: those to evaluate on are not those to record from."""
        super().__init__(calls)
        self._split = split

    def reset(self, planned: Planned) -> None:
        """Start the world of this trial; the robot is stopped meanwhile, because its joints will be elsewhere."""
        self._calls.require(topics.STOP)
        self._calls.set_parameters(topics.WORLD, {"task": planned.task, "seed": planned.seed, "split": self._split})
        self._calls.require(topics.WORLD_RESET)
        self._ready_robot()

    def outcome(self, time_limit: float) -> tuple[bool, float, str]:
        """Ask the world until it is solved or the time is up [s]."""
        while self._passed() < time_limit:
            if self._calls.trigger(topics.WORLD_SUCCESS)[0]:
                return True, self._passed(), ""
            time.sleep(_POLL)
        return False, self._passed(), "time"


class OperatorStage(_Stage):
    """A real robot: a person puts the scene in place and judges, at the terminal or through services."""

    def __init__(self, node: Node, calls: ServiceCalls, say: Callable[[str], None] = print) -> None:
        super().__init__(calls)
        self._say = say
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in (topics.TRIAL_READY, topics.TRIAL_SUCCESS, topics.TRIAL_FAILURE):
            node.create_service(Trigger, name, self._answer_to(name.rsplit("/", 1)[1]))
        threading.Thread(target=self._listen, daemon=True).start()

    def _answer_to(self, word: str) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            self._words.put(word)
            response.success, response.message = True, f"heard: {word}"
            return response

        return answer

    def _listen(self) -> None:
        meanings = {"": "ready", "s": "success", "f": "failure"}
        for line in sys.stdin:
            word = meanings.get(line.strip().lower())
            if word:
                self._words.put(word)

    def reset(self, planned: Planned) -> None:
        """Bring the arms home once the operator has stepped back, then wait until the scene is set."""
        trial = f"{planned.task}, trial {planned.seed}"
        self._wait(f"{trial}: take what the grippers hold, step back, then press Enter: the arms open and go home")
        self._ready_robot()
        self._calls.require(topics.HOME)
        self._wait(f"{trial}: set the scene, step back, then press Enter: the policy begins")

    def _wait(self, prompt: str) -> None:
        self._say(prompt)
        while self._words.get() != "ready":
            self._say("press Enter (or call /trial/ready)")

    def outcome(self, time_limit: float) -> tuple[bool, float, str]:
        """Wait for the operator's word, or until the time is up [s]."""
        self._say("s + Enter: success, f + Enter: failure")
        while (left := time_limit - self._passed()) > 0.0:
            try:
                word = self._words.get(timeout=left)
            except queue.Empty:
                break
            if word in ("success", "failure"):
                return word == "success", self._passed(), "judged by the operator"
        return False, self._passed(), "time"


class RecordedStage:
    """Another stage, every trial of which becomes a bag."""

    def __init__(self, stage: Stage, calls: ServiceCalls) -> None:
        """Record what happens on `stage`."""
        self._stage = stage
        self._calls = calls

    def reset(self, planned: Planned) -> None:
        """Reset the stage."""
        self._stage.reset(planned)

    def start(self) -> None:
        """Start the recorder, then the policy."""
        self._calls.require(topics.EPISODE_START)
        self._stage.start()

    def outcome(self, time_limit: float) -> tuple[bool, float, str]:
        """End the bag with the outcome."""
        outcome = self._stage.outcome(time_limit)
        self._calls.require(topics.EPISODE_SUCCESS if outcome[0] else topics.EPISODE_FAILURE)
        return outcome

    def stop(self) -> None:
        """Let the policy end."""
        self._stage.stop()
