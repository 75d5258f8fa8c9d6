import os
import subprocess
import sys

import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.folder_lock import FolderLock

HOLD = """
import sys, time
from pathlib import Path
from vla_rl_trainer.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other_process(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_that_another_process_writes_is_refused_naming_it(tmp_path, other_process):
    with pytest.raises(VlaError, match=f"being written by process {other_process.pid} on .*; wait for it"):
        FolderLock(tmp_path)


def test_a_killed_owner_holds_nothing(tmp_path, other_process):
    other_process.kill()
    other_process.wait()
    FolderLock(tmp_path).close()


def test_a_folder_is_refused_twice_in_one_process_until_closed(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(VlaError, match="already open for writing in this process"):
        FolderLock(tmp_path)
    lock.close()
    lock.close()
    FolderLock(tmp_path).close()


def test_a_forked_worker_does_not_keep_the_lock_of_its_dead_parent(tmp_path):
    script = HOLD.replace("time.sleep(60)", "import os; os.fork() or time.sleep(20); os._exit(0)")
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"held\n"
    parent.wait()
    try:
        FolderLock(tmp_path).close()
    finally:
        os.killpg(parent.pid, 9)
        parent.stdout.close()
