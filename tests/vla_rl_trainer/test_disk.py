import errno
import os
from pathlib import Path

import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.disk import refuse_full_disk, write_atomically


def test_a_written_file_holds_its_text_and_nothing_lies_beside_it(tmp_path):
    write_atomically(tmp_path / "new" / "a.json", "one")
    write_atomically(tmp_path / "new" / "a.json", b"two")
    assert (tmp_path / "new" / "a.json").read_text() == "two"
    assert os.listdir(tmp_path / "new") == ["a.json"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.json", "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VlaError, match=r"a\.json.*disk is full; free some space"):
        write_atomically(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.EDQUOT, "quota"), "quota is used up"),
        (PermissionError(errno.EACCES, "no"), "may write to"),
        (OSError(errno.EROFS, "read-only"), "read-only"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk is full"),  # as safetensors says it
    ],
)
def test_each_refusal_of_the_system_names_its_remedy(error, remedy):
    with pytest.raises(VlaError, match=remedy), refuse_full_disk(Path("x")):
        raise error


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "gone"), ValueError("a bug"), VlaError("told already")]
)
def test_other_errors_pass_through_unchanged(error):
    with pytest.raises(type(error)) as caught, refuse_full_disk(Path(".")):
        raise error
    assert caught.value is error
