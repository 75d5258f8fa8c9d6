import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_policy.errors import VlaError
from vla_rl_trainer.run_files import read_config, read_metrics
from vla_rl_trainer.run_folder import Run

CONFIG = {"task": "click_bell", "seed": 0, "grpo": {"clip": (0.8, 1.28), "temperature": 1.6}, "out": Path("runs/x")}


@pytest.fixture(autouse=True)
def quick_trackers(monkeypatch):
    """TensorBoard has its own tests; starting it takes a second."""
    monkeypatch.setattr("vla_rl_trainer.run_folder.make_trackers", lambda folder, config: [])


def test_a_new_run_keeps_its_resolved_configuration(tmp_path):
    with Run.create(tmp_path / "runs" / "x", CONFIG) as run:
        assert run.config["grpo"] == {"clip": [0.8, 1.28], "temperature": 1.6}
    assert read_config(tmp_path / "runs" / "x") == run.config
    assert list(yaml.safe_load((tmp_path / "runs/x/config.yaml").read_text())) == list(CONFIG)


def test_a_run_is_not_created_over_something_that_exists(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(VlaError, match="already exists; choose another --out or delete it"):
        Run.create(tmp_path, CONFIG)
    with pytest.raises(VlaError, match="already exists"):
        Run.create(tmp_path / "thesis.txt", CONFIG)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_the_same_configuration_resumes(tmp_path):
    Run.open_or_create(tmp_path, CONFIG).close()
    with Run.open_or_create(tmp_path, CONFIG) as run:
        run.log(0, {"loss": 1.0})
    with Run.open(tmp_path) as run:
        assert run.metrics() == [{"step": 0, "loss": 1.0}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed = 0, now seed = 1 is asked for; choose another --out or delete the folder"),
        (
            {"grpo": {"clip": (0.8, 1.2), "temperature": 1.6}},
            r"grpo.clip = \[0.8, 1.28\], now grpo.clip = \[0.8, 1.2\]",
        ),
        ({"extra": 3}, r"extra = \(not set\), now extra = 3"),
    ],
)
def test_a_run_of_another_configuration_is_refused_naming_the_key(tmp_path, change, message):
    Run.create(tmp_path, CONFIG).close()
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(VlaError, match=message):
        Run.open_or_create(tmp_path, {**CONFIG, **change})
    assert (tmp_path / "config.yaml").read_text() == before


def test_a_missing_key_is_a_difference_too(tmp_path):
    Run.create(tmp_path, CONFIG).close()
    with pytest.raises(VlaError, match=r"seed = 0, now seed = \(not set\)"):
        Run.open_or_create(tmp_path, {key: value for key, value in CONFIG.items() if key != "seed"})


def test_a_run_older_than_an_option_goes_on_with_its_default_and_not_with_another(tmp_path):
    Run.create(tmp_path, CONFIG).close()
    usual = {"learner": {"lora": {"rank": 0}}}
    with pytest.raises(VlaError, match=r"learner.lora.rank = 0, now learner.lora.rank = 8"):
        Run.open_or_create(tmp_path, {**CONFIG, "learner": {"lora": {"rank": 8}}}, defaults=usual)
    Run.open_or_create(tmp_path, {**CONFIG, **usual}, defaults=usual).close()
    assert read_config(tmp_path)["learner"] == usual["learner"]


def test_keys_that_may_differ_are_taken_over(tmp_path):
    Run.create(tmp_path, {**CONFIG, "num_workers": 2}).close()
    Run.open_or_create(tmp_path, {**CONFIG, "num_workers": 16}, may_differ=["num_workers"]).close()
    assert read_config(tmp_path)["num_workers"] == 16


@pytest.mark.parametrize("content", ["{", "- a list", "", b"\xff\xfe\x00"])
def test_a_damaged_configuration_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VlaError, match=r"config\.yaml"):
        Run.open(tmp_path)


def test_a_folder_without_a_run_is_not_opened(tmp_path):
    with pytest.raises(VlaError, match=r"is not a run folder: config\.yaml is missing"):
        Run.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_two_writers_are_refused(tmp_path):
    with Run.create(tmp_path, CONFIG), pytest.raises(VlaError, match="already open for writing"):
        Run.open(tmp_path)
    Run.open(tmp_path).close()


def test_metrics_are_on_disk_at_once_and_not_finite_ones_are_null(tmp_path):
    with Run.create(tmp_path, CONFIG) as run:
        run.log(3, {"loss": np.float32(0.5), "entropy": math.nan})
        assert run.metrics_path.read_text() == '{"step": 3, "loss": 0.5, "entropy": null}\n'


def test_truncation_drops_later_steps_and_a_torn_last_line(tmp_path):
    with Run.create(tmp_path, CONFIG) as run:
        for step in range(5):
            run.log(step, {"loss": step / 3})
        with run.metrics_path.open("a") as file:
            file.write('{"step": 5, "lo')
        run.truncate_metrics(3)
        run.log(3, {"loss": 1.0})
        assert [line["step"] for line in run.metrics()] == [0, 1, 2, 3]
        assert run.metrics()[2]["loss"] == 2 / 3


def test_opening_cuts_a_torn_last_line_so_that_the_next_starts_on_its_own(tmp_path):
    Run.create(tmp_path, CONFIG).close()
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [0]
    with Run.open(tmp_path) as run:
        run.log(1, {"loss": 0.5})
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1]


@pytest.mark.parametrize("line", ["{", "[1]", '{"loss": 1.0}', '{"step": "x"}'])
def test_a_line_damaged_in_the_middle_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(VlaError, match=r"metrics\.jsonl line 2 is damaged; delete that line"):
        read_metrics(tmp_path)


def test_only_complete_checkpoints_count(tmp_path):
    with Run.create(tmp_path, CONFIG) as run:
        assert run.latest_checkpoint() is None
        for step in (2, 10):
            with run.saving_checkpoint(step) as folder:
                (folder / "model").write_text(str(step))
        with pytest.raises(KeyboardInterrupt), run.saving_checkpoint(12) as folder:
            (folder / "model").write_text("half")
            raise KeyboardInterrupt
        (tmp_path / "checkpoints/.step_000014.partial").mkdir()  # what a kill -9 leaves
        assert run.checkpoint_steps() == [2, 10]
        assert run.latest_checkpoint() == run.checkpoint_path(10)
        assert (run.checkpoint_path(10) / "model").read_text() == "10"


def test_a_checkpoint_saved_again_is_replaced(tmp_path):
    with Run.create(tmp_path, CONFIG) as run:
        for text in ("old", "new"):
            with run.saving_checkpoint(1) as folder:
                (folder / text).write_text(text)
        assert os.listdir(run.checkpoint_path(1)) == ["new"]


def test_a_summary_is_plain_json_even_with_numpy_and_nan_inside(tmp_path):
    with Run.create(tmp_path, CONFIG) as run:
        run.write_summary({"sft": {"ci95": (np.float64(0.25), 0.5), "wall_s": math.inf}, "num": np.int64(3)})
        assert json.loads(run.summary_path.read_text()) == {"sft": {"ci95": [0.25, 0.5], "wall_s": None}, "num": 3}


def test_a_full_disk_is_one_clear_error(tmp_path):
    with Run.create(tmp_path, CONFIG) as run:
        run.metrics_path.symlink_to("/dev/full")
        with pytest.raises(VlaError, match=r"metrics\.jsonl: the disk is full; free some space"):
            run.log(0, {"loss": 1.0})


def test_a_checkpoint_on_a_full_disk_leaves_nothing(tmp_path):
    with Run.create(tmp_path, CONFIG) as run:
        with pytest.raises(VlaError, match="step_000001: the disk is full"), run.saving_checkpoint(1) as folder:
            (folder / "model").write_text("half")
            Path("/dev/full").write_text("x")
        assert run.latest_checkpoint() is None
        assert os.listdir(tmp_path / "checkpoints") == []


TRAIN = """
import sys, time
from vla_rl_trainer import run_folder
run_folder.make_trackers = lambda folder, config: []
run = run_folder.Run.open_or_create(sys.argv[1], {"seed": 0})
latest = run.latest_checkpoint()
start = int((latest / "state").read_text()) if latest else 0
run.truncate_metrics(start)
for step in range(start, int(sys.argv[2])):
    run.log(step, {"loss": 1 / (step + 1)})
    if step % 3 == 2:
        with run.saving_checkpoint(step + 1) as folder:
            (folder / "state").write_text(str(step + 1))
print("done", flush=True)
time.sleep(float(sys.argv[3]))
"""


def test_a_run_killed_and_resumed_has_the_metrics_of_an_unbroken_one(tmp_path):
    def command(name, steps, wait):
        return [sys.executable, "-c", TRAIN, str(tmp_path / name), str(steps), str(wait)]

    with subprocess.Popen(command("broken", 8, 60), stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"done\n"
        killed.send_signal(signal.SIGKILL)
    subprocess.run(command("broken", 12, 0), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(command("unbroken", 12, 0), check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "broken/metrics.jsonl").read_bytes() == (tmp_path / "unbroken/metrics.jsonl").read_bytes()


def test_a_dataclass_configuration_round_trips(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config:
        tasks: tuple[str, ...] = ("click_bell",)
        learning_rate: float = 1e-5
        limit: float = math.inf

    Run.create(tmp_path, dataclasses.asdict(Config())).close()
    Run.open_or_create(tmp_path, dataclasses.asdict(Config())).close()


def test_a_new_run_that_fails_before_it_wrote_anything_bars_no_other(tmp_path):
    with pytest.raises(VlaError), Run.open_or_create(tmp_path / "run", CONFIG):
        raise VlaError("the policy solves nothing")
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [".lock"]
    Run.open_or_create(tmp_path / "run", {**CONFIG, "seed": 9}).close()


@pytest.mark.parametrize("failing_start", [1, 2])
def test_a_run_that_fails_later_keeps_its_configuration(tmp_path, failing_start):
    for start in (1, 2):
        with contextlib.suppress(KeyboardInterrupt), Run.open_or_create(tmp_path / "run", CONFIG) as run:
            if start == 1:
                run.log(0, {"loss": 1.0})
            if start == failing_start:
                raise KeyboardInterrupt
    with Run.open_or_create(tmp_path / "run", CONFIG) as run:
        assert len(run.metrics()) == 1
