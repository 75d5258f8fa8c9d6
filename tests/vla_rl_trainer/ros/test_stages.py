"""Trials on a real robot: the arms go home before the scene is set, and a person's word counts."""

import io

import pytest

from vla_policy import topics
from vla_rl_trainer.ros.stages import OperatorStage
from vla_rl_trainer.trials import Planned

pytestmark = pytest.mark.ros


class Services:
    """What a node offers, and what a stage calls."""

    def __init__(self):
        self.offered, self.called = {}, []

    def create_service(self, kind, name, callback):
        self.offered[name] = lambda: callback(kind.Request(), kind.Response())

    def trigger(self, name):
        self.called.append(name)
        return True, ""

    def switch(self, name, on):
        self.called.append(name)

    def require(self, name):
        self.trigger(name)


@pytest.fixture
def services():
    return Services()


def stage_with(services, typed, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    said = []
    return OperatorStage(services, services, said.append), said


def test_the_arms_go_home_before_the_scene_is_set(services, monkeypatch):
    stage, said = stage_with(services, "\n\n", monkeypatch)
    stage.reset(Planned(column="real", policy="bell", task="click_bell", seed=3))
    assert services.called == [topics.RELEASE, topics.ENABLE, topics.HOME]
    assert "step back" in said[0] and "go home" in said[0]
    assert "set the scene" in said[1]


@pytest.mark.parametrize(("word", "solved"), [("s\n", True), ("f\n", False)])
def test_the_operator_judges_at_the_terminal(services, monkeypatch, word, solved):
    stage, _ = stage_with(services, word, monkeypatch)
    stage.start()
    success, _, note = stage.outcome(10.0)
    assert (success, note) == (solved, "judged by the operator")


def test_the_operator_judges_by_service(services, monkeypatch):
    stage, _ = stage_with(services, "", monkeypatch)
    stage.start()
    assert services.offered[topics.TRIAL_SUCCESS]().message == "heard: success"
    assert stage.outcome(10.0)[0]


def test_a_trial_without_a_word_ends_with_its_time(services, monkeypatch):
    stage, _ = stage_with(services, "", monkeypatch)
    stage.start()
    assert stage.outcome(0.05)[::2] == (False, "time")
