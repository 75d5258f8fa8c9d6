"""The attack does what it says, and would notice a guard that sleeps."""

import dataclasses
import json

import numpy as np
import pytest

from piper_bringup.control.command_stream import CommandStream
from piper_bringup.fuzz.__main__ import FuzzConfig, fuzz, play_block
from piper_bringup.fuzz.attack import KINDS
from vla_policy.errors import VlaError


def test_a_block_of_every_attack_breaks_no_limit_and_is_repeated_by_its_seed():
    outcome = play_block(0, 0, 150)
    assert outcome.violations == 0, outcome.examples
    assert set(outcome.kinds) == set(KINDS)
    assert outcome.chunks == 150
    assert 0 < outcome.accepted < 150
    assert {"malformed_chunk", "not_finite", "stale_chunk", "future_chunk"} <= set(outcome.refusals)
    assert outcome.commands > 300
    assert dataclasses.asdict(play_block(0, 0, 150)) == dataclasses.asdict(outcome)


def test_a_guard_that_lets_everything_through_is_caught(monkeypatch):
    def follow(self, target):
        self._advance(target, np.zeros_like(target))

    monkeypatch.setattr(CommandStream, "follow", follow)
    outcome = play_block(0, 0, 60)
    assert outcome.violations > 100
    assert outcome.examples[0].startswith("seed 0, block 0: command")


def test_the_summary_counts_chunks_and_violations(tmp_path, capsys):
    assert fuzz(FuzzConfig(num_chunks=60, out=tmp_path / "fuzz", workers=1)) == 0
    summary = json.loads((tmp_path / "fuzz" / "summary.json").read_text())
    assert (summary["chunks"], summary["violations"], summary["seed"]) == (60, 0, 0)
    assert 0.5 < summary["largest"]["velocity"] <= 1.0 + 1e-6
    assert "60 chunks, 0 violations" in capsys.readouterr().out


def test_no_chunks_are_refused():
    with pytest.raises(VlaError, match="num_chunks"):
        FuzzConfig(num_chunks=0)
