import re
import subprocess
import sys
import types

from vla_policy import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_changed_work_tree_is_marked_dirty(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    clean = provenance.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    (tmp_path / "a").write_text("2")
    assert provenance.commit(tmp_path) == f"{clean}-dirty"


def test_outside_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == "unknown"


def test_the_hardware_is_one_line_with_cores_memory_and_gpus():
    assert re.fullmatch(r"\d+ cores of .+, \d+ GiB, (no GPU|\d+x .+)", provenance.hardware())


def test_gpus_of_a_kind_are_counted(monkeypatch):
    monkeypatch.setattr(provenance, "_output_of", lambda command: "NVIDIA H200\nNVIDIA H200")
    assert provenance.hardware().endswith("2x NVIDIA H200")


def test_provenance_says_how_to_run_it_again(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
    monkeypatch.setattr(sys, "argv", ["/somewhere/train_sft", "--task", "click bell"])
    facts = provenance.provenance(seed=7)
    assert facts["command"] == "train_sft --task 'click bell'"
    assert facts["seed"] == "7"
    assert {"commit", "hardware", "python", "numpy", "date"} <= set(facts)


def test_a_module_that_was_run_is_named_as_it_was_run(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", types.SimpleNamespace(name="vla_rl_trainer.demo"))
    monkeypatch.setattr(sys, "argv", ["/somewhere/demo.py", "--seed", "1"])
    assert provenance.command_line() == "python -m vla_rl_trainer.demo --seed 1"
