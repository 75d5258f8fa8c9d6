"""When the policy looks, and what of its answers reaches the robot; by a clock that only the test moves."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from vla_policy.chunking import ChunkPlayer
from vla_policy.errors import VlaError
from vla_policy.serving import ON_THE_WAY, POLL, PolicyServer
from vla_policy.serving_config import ServingConfig
from vla_policy.types import ActionChunk

IMAGE = np.zeros((16, 16, 3), np.uint8)
LENGTH, PERIOD = 4, 0.04
STEPS = np.arange(1, LENGTH + 1)[:, None] * np.array([0.02, 0.01, 0.0])
"""What the scripted policy adds to the state it sees, within the speed of every joint."""
CHUNK = LENGTH * PERIOD


class Stage:
    """A server, its scripted policy, a clock, and what was published."""

    def __init__(self, robot, duration=0.01, **config):
        self.robot, self.now, self.duration = robot, 100.0, duration
        self.seen, self.published, self.proposed = [], [], []
        self.offset, self.interrupt = np.zeros(3), lambda: None
        told = {"instruction": "press the bell", "autostart": True, "settle": 0.0, "margin": 0.0}
        settings = ServingConfig(**{**told, **config})
        self.server = PolicyServer(self, robot, settings, self.publish, lambda: self.now)

    def infer(self, observations):
        (seen,) = observations
        self.seen.append(seen)
        self.now += self.duration
        self.interrupt()
        actions = (seen.state + self.offset + STEPS).astype(np.float32)
        return [ActionChunk(actions=actions, period=PERIOD, stamp=seen.stamp)]

    def publish(self, chunk, is_proposal):
        (self.proposed if is_proposal else self.published).append((self.now, chunk))

    def sense(self, state=(0.0, 0.0, 0.0)):
        """All sources, taken this very moment."""
        for camera in self.robot.camera_names:
            self.server.see(camera, IMAGE, self.now)
        self.server.feel(np.array(state, np.float32), self.now)

    def play(self, until, every=0.01):
        """Sense and step until a time."""
        while self.now < until - 1e-9:
            self.sense()
            self.server.step()
            self.now = min(self.now + every, until) if self.server.step() else self.now

    @property
    def problem(self):
        return self.server.status().problem

    @property
    def idle(self):
        return self.server.status().idle


@pytest.fixture
def stage(robot):
    return lambda **config: Stage(robot, **config)


def test_an_observation_becomes_a_chunk(stage):
    it = stage()
    it.sense(state=[0.1, 0.2, 0.03])
    assert it.server.step() == 0.0
    ((when, chunk),) = it.published
    assert it.seen[0].instruction == "press the bell" and it.seen[0].stamp == 100.0
    assert when == chunk.stamp == 100.01
    np.testing.assert_allclose(chunk.actions, STEPS + np.array([0.1, 0.2, 0.03]), atol=1e-6)
    assert it.problem is None and it.idle is None


def test_while_a_chunk_plays_the_waiting_policy_does_not_look(stage):
    it = stage(settle=0.02)
    it.sense()
    it.server.step()
    ends = it.published[0][1].stamp + CHUNK
    it.play(until=ends + 0.019)
    assert len(it.seen) == 1
    it.now = ends + 0.021
    it.sense()
    it.server.step()
    assert it.seen[1].stamp == it.now - it.duration


def test_the_waiting_policy_looks_only_at_what_was_seen_after_the_chunk(stage):
    it = stage()
    it.sense()
    it.server.step()
    it.now = it.published[0][1].stamp + CHUNK - 0.001
    it.sense()
    it.now += 0.01
    it.server.see("head", IMAGE, it.now)
    it.server.feel(np.zeros(3, np.float32), it.now)
    assert it.server.step() > 0.0 and len(it.seen) == 1
    it.server.see("wrist", IMAGE, it.now)
    assert it.server.step() == 0.0 and len(it.seen) == 2


def test_the_waiting_policy_plays_every_chunk_from_its_first_row_however_long_it_thought(stage):
    it = stage(duration=0.3)
    it.play(until=102.0)
    assert len(it.published) >= 4
    assert all(when == chunk.stamp for when, chunk in it.published)
    assert it.server.status().values["most_rows_skipped"] == 0


@pytest.mark.parametrize("duration", [0.005, 0.03, 0.06])
def test_the_next_chunk_comes_just_before_the_last_is_spent(stage, duration):
    it = stage(duration=duration, wait_for_chunk=False, margin=0.01)
    it.play(until=102.0, every=0.001)
    assert len(it.published) >= 10
    ends = [chunk.stamp + CHUNK for _, chunk in it.published]
    for (when, chunk), end in zip(it.published[2:], ends[1:], strict=False):
        assert end - 0.02 <= when + ON_THE_WAY <= end
        assert chunk.stamp == pytest.approx(when - duration)


def test_rows_that_pass_while_thinking_are_counted(stage):
    it = stage(duration=0.07, wait_for_chunk=False)
    it.play(until=101.0, every=0.001)
    assert it.server.status().values["most_rows_skipped"] == math.floor((0.07 + ON_THE_WAY) / PERIOD)


def test_the_first_chunk_loses_no_row_since_the_robot_stands_still(stage):
    it = stage(duration=0.5, wait_for_chunk=False)
    it.sense()
    it.server.step()
    assert it.published[0][1].stamp == 100.5


@pytest.mark.parametrize("waits", [True, False])
def test_at_a_boundary_no_joint_is_sent_faster_than_it_may_move(stage, robot, waits):
    it = stage(duration=0.05, wait_for_chunk=waits)
    rng = np.random.default_rng(0)
    while it.now < 104.0:
        it.offset = rng.uniform(-0.5, 0.5, 3)
        it.sense()
        it.server.step()
        it.now += 0.001
    arrivals = [(when + 0.001, chunk) for when, chunk in it.published]
    assert len(arrivals) > 15
    player, sent = ChunkPlayer(), []
    player.push(arrivals[0][1], now=arrivals[0][0], start=np.zeros(3))
    for (when, _), (end, after) in itertools.pairwise(arrivals):
        times = np.arange(when, end, 0.0005)
        sent += [(time, player.target(time)) for time in (*times, end)]
        player.push(after, now=end)
    times, targets = np.array([time for time, _ in sent]), np.array([target for _, target in sent])
    limit = np.array([joint.max_velocity for joint in robot.joints])
    assert (np.abs(np.diff(targets, axis=0)) <= limit * np.diff(times)[:, None] * 1.001 + 1e-6).all()


def test_an_answer_that_comes_after_its_last_row_is_dropped_and_the_reason_told(stage):
    it = stage(duration=0.01, wait_for_chunk=False)
    it.play(until=100.1)
    it.duration = CHUNK + 0.1
    it.play(until=100.2)
    assert len(it.published) == 1
    assert it.problem is not None and "wait_for_chunk, or give the policy a faster device" in it.problem
    it.play(until=101.0)
    assert len(it.published) > 1


def test_a_stopped_policy_neither_looks_nor_speaks(stage):
    it = stage(autostart=False)
    it.sense()
    assert it.server.step() == POLL
    assert not it.seen and it.idle == "stopped; call /policy/run to begin"
    it.server.run(True)
    it.now += 0.001
    it.sense()
    it.server.step()
    assert len(it.published) == 1 and it.idle is None


def test_a_policy_that_begins_does_not_look_at_what_was_before(stage):
    it = stage(autostart=False)
    it.sense()
    it.now += 0.05
    it.server.run(True)
    assert it.server.step() > 0.0 and not it.seen


def test_nothing_is_handed_on_after_a_stop(stage):
    it = stage()
    it.interrupt = lambda: it.server.run(False)
    it.sense()
    it.server.step()
    assert it.seen and not it.published


def test_a_restarted_policy_does_not_lead_on_from_the_chunk_before(stage):
    it = stage()
    it.sense(state=[1.0, 1.0, 0.03])
    it.server.step()
    it.server.run(False)
    it.server.run(True)
    it.now += 0.001
    it.sense()
    it.server.step()
    np.testing.assert_allclose(it.published[1][1].actions, STEPS, atol=1e-6)


def test_a_new_instruction_takes_effect_at_once(stage):
    it = stage()
    it.interrupt = lambda: it.server.instruct("lift the cube")
    it.sense()
    it.server.step()
    assert not it.published
    it.interrupt = lambda: None
    it.sense()
    it.server.step()
    assert [seen.instruction for seen in it.seen] == ["press the bell", "lift the cube"]
    assert len(it.published) == 1


def test_without_an_instruction_nothing_is_done(stage):
    it = stage(instruction="")
    it.sense()
    it.server.step()
    assert not it.seen and it.problem == "no instruction; publish one on /instruction"


def test_the_missing_camera_is_told(stage):
    it = stage()
    it.sense()
    it.server.step()
    it.now += 0.6
    it.server.see("head", IMAGE, it.now)
    it.server.feel(np.zeros(3, np.float32), it.now)
    it.server.step()
    assert len(it.seen) == 1 and it.problem == "no image from camera wrist for 0.6 s"


def test_an_image_that_is_too_small_is_refused_and_the_camera_named(stage):
    it = stage()
    it.sense()
    it.server.see("wrist", np.zeros((8, 8, 3), np.uint8), it.now)
    assert it.server.step() > 0.0
    assert not it.seen and it.problem is not None and "camera wrist sends images of 8 x 8 px" in it.problem
    it.sense()
    it.server.step()
    assert len(it.published) == 1 and it.problem is None


def test_an_answer_that_is_not_finite_is_not_handed_on(stage):
    it = stage()
    it.offset[1] = np.nan
    it.sense()
    it.server.step()
    assert not it.published and it.problem == "the policy answers with NaN or infinity; its checkpoint is damaged"


@pytest.mark.parametrize(("mode", "proposed"), [("shadow", True), ("dry_run", False)])
def test_a_policy_on_trial_thinks_as_always_but_no_robot_hears_it(stage, mode, proposed):
    it = stage(mode=mode)
    it.play(until=101.0)
    assert len(it.seen) >= 4 and not it.published
    assert bool(it.proposed) == proposed
    assert all(chunk.stamp in {seen.stamp for seen in it.seen} for _, chunk in it.proposed)
    assert it.server.status().values["latency_count"] == it.server.status().values["chunks"] == len(it.seen)


def test_a_policy_in_the_shadow_leads_on_from_the_robot_not_from_itself(stage):
    it = stage(mode="shadow")
    it.sense(state=[1.0, 1.0, 0.03])
    it.server.step()
    it.now += 1.0
    it.sense()
    it.server.step()
    np.testing.assert_allclose(it.proposed[1][1].actions, STEPS, atol=1e-6)


def test_a_chunk_waits_for_approval(stage):
    it = stage(mode="approve")
    it.sense()
    it.server.step()
    assert len(it.proposed) == 1 and not it.published
    it.now += 2.0
    it.sense()
    it.server.step()
    assert len(it.seen) == 1 and it.idle == "waiting for approval of the chunk of 2.0 s ago"
    assert it.server.approve() == "the chunk of 2.0 s ago is played"
    assert [(when, chunk.stamp) for when, chunk in it.published] == [(it.now, it.now)]
    it.play(until=it.now + CHUNK - 0.01)
    assert len(it.seen) == 1
    it.play(until=it.now + 0.05)
    assert len(it.proposed) == 2 and len(it.published) == 1


def test_a_proposal_that_is_stale_is_thought_out_anew_and_cannot_be_approved(stage):
    it = stage(mode="approve", approval_timeout=5.0)
    with pytest.raises(VlaError, match="no chunk waits for approval"):
        it.server.approve()
    it.sense()
    it.server.step()
    it.now += 5.1
    it.sense()
    with pytest.raises(VlaError, match="no chunk waits for approval"):
        it.server.approve()
    it.server.step()
    assert len(it.proposed) == 2
    it.server.approve()
    assert it.published[0][1].stamp == it.now


def test_no_chunk_is_approved_for_a_robot_that_is_not_seen(stage):
    it = stage(mode="approve")
    it.sense()
    it.server.step()
    it.now += 1.0
    with pytest.raises(VlaError, match=r"not approved: no image from camera head for 1\.0 s"):
        it.server.approve()
    it.sense()
    it.server.approve()
    assert len(it.published) == 1


@pytest.mark.parametrize("change", [lambda server: server.instruct("lift the cube"), lambda server: server.run(True)])
def test_a_proposal_falls_with_what_it_was_made_for(stage, change):
    it = stage(mode="approve")
    it.sense()
    it.server.step()
    change(it.server)
    with pytest.raises(VlaError, match="no chunk waits"):
        it.server.approve()


def test_a_clock_that_is_set_back_does_not_silence_the_policy(stage):
    it = stage()
    it.sense()
    it.server.step()
    it.now = 3.0
    it.server.step()
    assert it.problem == "no image from camera head yet"
    it.now = 3.1
    it.sense()
    it.server.step()
    assert len(it.published) == 2 and it.published[1][1].stamp == pytest.approx(3.11)


def test_what_arrives_wakes_whoever_steps(stage):
    it = stage()
    it.server.see("head", IMAGE, it.now)
    for arrive in (
        lambda: it.server.see("wrist", IMAGE, it.now),
        lambda: it.server.instruct("lift"),
        lambda: it.server.run(False),
    ):
        it.server.news.clear()
        arrive()
        assert it.server.news.is_set()


def test_images_that_are_waited_for_are_fitted_as_they_come_and_the_last_one_wakes(stage, monkeypatch):
    fitted = []
    monkeypatch.setattr("vla_policy.observing.fit_image", lambda image, camera: fitted.append(camera.name) or image)
    it = stage()
    it.sense()
    it.server.step()
    it.server.step()
    fitted.clear()
    ends = it.published[0][1].stamp + CHUNK
    it.server.news.clear()
    for camera, when in (("head", ends - 0.01), ("wrist", ends - 0.01), ("head", ends + 0.001)):
        it.server.see(camera, IMAGE, when)
        assert not it.server.news.is_set()
    it.server.see("wrist", IMAGE, ends + 0.001)
    assert it.server.news.is_set()
    assert fitted == ["head", "wrist"]
    it.now = ends + 0.002
    it.server.feel(np.zeros(3, np.float32), it.now)
    assert it.server.step() == 0.0
    assert fitted == ["head", "wrist"] and it.seen[1].stamp == ends + 0.001


def test_images_wake_nobody_while_the_policy_is_stopped(stage):
    it = stage()
    it.server.run(False)
    it.server.step()
    it.server.news.clear()
    it.sense()
    assert not it.server.news.is_set()


def test_joints_wake_nobody_unless_they_are_what_is_missing(stage):
    it = stage()
    it.server.news.clear()
    it.server.feel(np.zeros(3, np.float32), it.now)
    assert not it.server.news.is_set()
    it.sense()
    it.server.step()
    it.now = it.published[0][1].stamp + CHUNK + 0.001
    for camera in it.robot.camera_names:
        it.server.see(camera, IMAGE, it.now)
    it.server.feel(np.zeros(3, np.float32), it.now - 0.002)
    assert it.server.step() > 0.0
    it.server.news.clear()
    it.server.feel(np.zeros(3, np.float32), it.now + 0.003)
    assert it.server.news.is_set()
    it.server.step()
    assert len(it.seen) == 2


def test_parts_of_the_latency_are_told(stage):
    it = stage(duration=0.25)
    it.sense()
    it.now += 0.05
    it.server.step()
    values = it.server.status().values
    told = {name: float(str(values[f"{name}_p99_ms"])) for name in ("observe", "inference", "publish", "overhead")}
    assert told == pytest.approx({"observe": 50, "inference": 250, "publish": 0, "overhead": 50}, rel=0.01)


@pytest.mark.parametrize(
    "wrong", [{"settle": -0.1}, {"margin": -1.0}, {"max_image_age": 0.0}, {"approval_timeout": 0.0}]
)
def test_times_that_cannot_be_are_refused(wrong):
    with pytest.raises(VlaError, match=f"{next(iter(wrong))} is "):
        ServingConfig(**wrong)


def test_every_field_is_a_described_parameter():
    from vla_policy.field_docs import field_docs

    assert field_docs(ServingConfig).keys() == {field.name for field in dataclasses.fields(ServingConfig)}
