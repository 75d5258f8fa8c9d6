"""Names that never collide, and folders that appear when they are whole."""

import pytest

from piper_bringup.recording.bag_files import DISCARDED, BagFolder, slug, unfinished
from vla_policy.errors import VlaError


def recorded(bags, title="press the bell", outcome="success"):
    folder = BagFolder.create(bags, title)
    folder.bag.mkdir()
    (folder.bag / "some.mcap").write_text(title)
    return folder.keep(outcome)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Press the bell!", "press_the_bell"),
        ("../../etc/passwd", "etc_passwd"),
        ("把瓶子拿起来", "episode"),
        ("x" * 100, "x" * 40),
    ],
)
def test_any_text_becomes_part_of_a_file_name(text, name):
    assert slug(text) == name


def test_a_bag_gets_its_name_when_it_is_kept(tmp_path):
    folder = BagFolder.create(tmp_path, "press the bell")
    folder.bag.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [".episode_000000_press_the_bell.recording"]
    assert folder.keep("failure") == tmp_path / "episode_000000_press_the_bell_failure"
    assert [path.name for path in tmp_path.iterdir()] == ["episode_000000_press_the_bell_failure"]


def test_numbers_go_on_after_the_highest_whatever_became_of_it(tmp_path):
    first = recorded(tmp_path)
    assert recorded(tmp_path, outcome=DISCARDED) == tmp_path / DISCARDED / "episode_000001_press_the_bell"
    left = BagFolder.create(tmp_path, "another task")
    left.leave()
    assert left.name == "episode_000002_another_task"
    first.rename(tmp_path / "taken_away")
    assert recorded(tmp_path, "third").name == "episode_000003_third_success"


def test_nothing_is_ever_overwritten(tmp_path):
    folder = BagFolder.create(tmp_path, "bell")
    folder.bag.mkdir()
    taken = tmp_path / "episode_000000_bell_success"
    taken.mkdir()  # empty: a rename would go over it without a word
    assert folder.keep("success").name == "episode_000000_bell_success_2"
    assert not list(taken.iterdir())


def test_a_folder_that_is_being_recorded_is_held(tmp_path):
    folder = BagFolder.create(tmp_path, "bell")
    assert unfinished(tmp_path) == [folder.path]
    with pytest.raises(VlaError, match="is being recorded; end the episode"):
        BagFolder(folder.path)
    folder.leave()
    BagFolder(folder.path).remove()
    assert not unfinished(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "bags").write_text("a file")
    with pytest.raises(VlaError, match="choose another folder"):
        BagFolder.create(tmp_path / "bags", "bell")
