"""Keeping freed memory for the next layer instead of handing it back to the kernel.

A forward pass on a CPU allocates and frees tens of megabytes a layer. By default glibc maps each block anew, and the
kernel zeroes every page of it: for `tiny` at batch 64 a third of the time (166 against 250 samples/s in `make bench`
on two EPYC cores, docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024**2
"""glibc refuses more on 64-bit machines [bytes]."""
_TOP_PAD = 256 * 1024**2
"""Asked of the kernel at a time [bytes]."""
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library's allocator to keep what is freed; once a process is enough.

    Returns:
        False where the C library is not glibc: everything works, only slower.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])
