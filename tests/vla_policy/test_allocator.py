"""Freed memory is kept."""

import subprocess
import sys

from vla_policy.allocator import keep_freed_memory


def test_glibc_accepts_the_settings():
    assert keep_freed_memory()


def test_freed_memory_is_used_again_without_new_page_faults():
    """In a process of its own: the settings last, and other tests' memory would blur the count."""
    script = """
import resource
import numpy as np
from vla_policy.allocator import keep_freed_memory
assert keep_freed_memory()
def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        np.ones(2**20)  # 8 MiB, 2,048 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(2)
assert faults(50) < 2048, faults(50)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
