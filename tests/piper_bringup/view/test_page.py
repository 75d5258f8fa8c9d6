"""The page: served to this machine alone, its bodies where the joints say."""

import urllib.request

import numpy as np
import pytest

from piper_bringup.view.page import TILE_WIDTH, Page, mosaic
from piper_bringup.view.status_board import Status, StatusBoard
from piper_twin.appearance import Appearance
from piper_twin.episode import Episode
from piper_twin.robot import HOME
from vla_policy.errors import VlaError

BOTH_HOME = np.tile(HOME, 2)


@pytest.fixture
def page():
    page = Page("127.0.0.1", 0, {"Stop": lambda: None}, lambda text: None)
    yield page
    page.close()


def image(height, width, value=0):
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_the_page_is_there(page):
    with urllib.request.urlopen(page.address) as answer:
        assert b"<html" in answer.read()
    assert page.num_viewers == 0


def test_a_port_that_is_taken_is_refused_rather_than_another_taken(page):
    port = int(page.address.rsplit(":", 1)[1])
    with pytest.raises(VlaError, match=f"no page can be served at 127.0.0.1:{port} .*; choose another port"):
        Page("127.0.0.1", port, {}, lambda text: None)


def test_bodies_stand_where_the_joints_put_them(page):
    appearance = Appearance(Episode("stack_bowls", 0))
    page.show(appearance)
    joints = BOTH_HOME.copy()
    joints[0] = 0.5
    poses = appearance.poses(joints, {})
    page.move(poses)
    for body, frame in page.frames.items():
        np.testing.assert_allclose(np.concatenate([frame.position, frame.wxyz]), poses[body], atol=1e-6)
    assert set(appearance.objects) <= set(page.frames)


def test_everything_that_can_be_told_is_shown_without_complaint(page):
    board = StatusBoard()
    board.take("robot", Status(level="ok", message="ok", values={"state": "ready"}, time=0.0))
    page.tell(board, 0.0)
    page.answer("Enable: <enabled>")
    page.instruction("press the bell")
    page.pictures({"head": image(48, 64), "left_wrist": image(48, 64)})


def test_the_first_camera_is_large_and_the_others_stand_below_it():
    seen = mosaic([image(128, 128, 10), image(128, 128, 20), image(480, 640, 30)])
    assert seen.shape == (3 * TILE_WIDTH, 2 * TILE_WIDTH, 3)
    assert (seen[: 2 * TILE_WIDTH] == 10).all()
    assert (seen[2 * TILE_WIDTH :, :TILE_WIDTH] == 20).all()
    below = seen[2 * TILE_WIDTH :, TILE_WIDTH:]
    assert (below[: TILE_WIDTH * 3 // 4] == 30).all()
    assert not below[TILE_WIDTH * 3 // 4 :].any()


def test_one_camera_alone_fills_the_picture():
    assert mosaic([image(480, 640, 5)]).shape == (TILE_WIDTH * 3 // 2, 2 * TILE_WIDTH, 3)
