"""The newest of every source, none of it too old."""

import numpy as np
import pytest

from vla_policy.observing import Observer

IMAGE = np.zeros((16, 16, 3), np.uint8)


@pytest.fixture
def observer(robot):
    """Has seen both cameras and the joints at 10 s, and knows what to do."""
    observer = Observer(robot, max_image_age=0.2, max_joint_age=0.1)
    observer.instruction = "press the bell"
    for camera in robot.camera_names:
        observer.see(camera, IMAGE, 10.0)
    observer.feel(np.zeros(3, np.float32), 10.0)
    return observer


def test_with_everything_fresh_nothing_is_wrong(observer):
    assert observer.problem(10.1) is None


def test_what_never_came_is_named(robot):
    observer = Observer(robot, 0.2, 0.1)
    assert observer.problem(10.0) == "no image from camera head yet"
    observer.see("head", IMAGE, 10.0)
    assert observer.problem(10.0) == "no image from camera wrist yet"
    observer.see("wrist", IMAGE, 10.0)
    assert observer.problem(10.0) == "no joint states yet"
    observer.feel(np.zeros(3, np.float32), 10.0)
    assert observer.problem(10.0) == "no instruction; publish one on /instruction"


def test_what_stopped_coming_is_named_with_its_age(observer, robot):
    observer.feel(np.zeros(3, np.float32), 10.6)
    observer.see("head", IMAGE, 10.6)
    assert observer.problem(10.6) == "no image from camera wrist for 0.6 s"
    observer.see("wrist", IMAGE, 10.6)
    assert observer.problem(10.79) == "no joint states for 0.2 s"


def test_a_stamp_from_the_future_is_no_fresh_one(observer):
    observer.see("wrist", IMAGE, 13.0)
    assert observer.problem(10.0) == (
        "image from camera wrist is 3.00 s ahead of this computer's clock; let one keep the other's time"
    )


def test_a_message_that_cannot_be_read_is_told_until_one_can(observer):
    observer.misread("head", "camera head sends 'yuv422' images")
    assert observer.problem(10.0) == "camera head sends 'yuv422' images"
    observer.see("head", IMAGE, 10.0)
    observer.misread("", "/joint_states lacks elbow")
    assert observer.problem(10.0) == "/joint_states lacks elbow"
    observer.feel(np.zeros(3, np.float32), 10.0)
    assert observer.problem(10.0) is None


def test_a_look_waits_for_every_source(observer):
    assert observer.look(after=10.01) is None
    observer.see("head", IMAGE, 10.02)
    observer.feel(np.zeros(3, np.float32), 10.02)
    assert observer.look(after=10.01) is None
    observer.see("wrist", IMAGE, 10.015)
    seen = observer.look(after=10.01)
    assert seen is not None and seen.stamp == 10.015
    observer.forget()
    assert observer.look(after=10.01) is None


def test_joints_are_those_of_the_moment_the_oldest_image_was_taken(observer):
    for number in range(1, 30):
        observer.feel(np.full(3, number, np.float32), 10.0 + 0.005 * number)
    observer.see("head", IMAGE, 10.121)
    observer.see("wrist", IMAGE, 10.101)
    seen = observer.look(after=10.05)
    assert seen is not None and seen.state.tolist() == [20.0, 20.0, 20.0]


def test_images_are_fitted_to_the_policy_once(observer):
    observer.see("head", np.zeros((48, 64, 3), np.uint8), 10.0)
    (head, wrist) = observer.images(after=10.0)
    assert head.fitted is head.fitted and wrist.fitted is IMAGE
    shown = observer.look(after=10.0).observation()
    assert shown.images["head"] is head.fitted and shown.images["head"].shape == (16, 16, 3)
    assert (shown.instruction, shown.stamp) == ("press the bell", 10.0)
