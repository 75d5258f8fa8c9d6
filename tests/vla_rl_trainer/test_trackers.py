import sys
import types

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vla_rl_trainer.trackers import TensorBoard, make_trackers


class FakeWandb(types.ModuleType):
    """Keeps what it is told."""

    def __init__(self, refuse=False):
        super().__init__("wandb")
        self.refuse, self.started, self.logged, self.finished = refuse, {}, [], False

    def init(self, **arguments):
        if self.refuse:
            raise RuntimeError("no login")
        self.started = arguments
        return self

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def finish(self):
        self.finished = True


@pytest.fixture(autouse=True)
def no_wandb_settings(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


def scalars(folder, name):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_gets_every_metric(tmp_path):
    board = TensorBoard(tmp_path)
    board.log(0, {"reward/mean": 0.5})
    board.log(1, {"reward/mean": 0.75})
    board.close()
    assert scalars(tmp_path, "reward/mean") == [(0, 0.5), (1, 0.75)]


def test_tensorboard_forgets_the_steps_of_a_killed_run_that_come_again(tmp_path):
    for steps, value in ((range(4), 0.0), (range(2, 5), 1.0)):
        board = TensorBoard(tmp_path)
        for step in steps:
            board.log(step, {"x": value})
        board.close()
    assert scalars(tmp_path, "x") == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 1.0)]


def test_nothing_is_written_before_the_first_metric(tmp_path):
    TensorBoard(tmp_path / "tensorboard").close()
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("settings", [{}, {"WANDB_MODE": "disabled", "WANDB_PROJECT": "p"}])
def test_wandb_is_left_alone_unless_configured(tmp_path, monkeypatch, settings):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert len(make_trackers(tmp_path, {})) == 1


def test_wandb_that_is_not_installed_is_silently_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert len(make_trackers(tmp_path, {})) == 1


def test_wandb_resumes_under_the_same_identity(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_PROJECT", "bells")
    identities = []
    for _ in range(2):
        tracker = make_trackers(tmp_path, {"seed": 0})[1]
        tracker.log(3, {"loss": 1.0})
        tracker.close()
        identities.append(wandb.started["id"])
    assert identities[0] == identities[1]
    assert (wandb.started["project"], wandb.started["resume"], wandb.started["config"]) == (
        "bells",
        "allow",
        {"seed": 0},
    )
    assert wandb.logged == [(3, {"loss": 1.0})] * 2
    assert wandb.finished


def test_a_wandb_that_cannot_start_is_warned_of_and_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(refuse=True))
    monkeypatch.setenv("WANDB_MODE", "online")
    assert len(make_trackers(tmp_path, {})) == 1
    assert "no login" in caplog.text
    assert "WANDB_MODE=offline" in caplog.text
