"""One place decides the precision."""

import pytest
import torch

from vla_policy import precision


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.delenv("VLA_POLICY_PRECISION", raising=False)
    precision.compute_dtype.cache_clear()
    yield
    precision.compute_dtype.cache_clear()


@pytest.mark.parametrize(
    "flags, dtype",
    [({"avx512_bf16", "sse"}, torch.bfloat16), ({"amx_bf16"}, torch.bfloat16), ({"avx2"}, torch.float32)],
)
def test_a_cpu_computes_in_bfloat16_only_when_it_has_the_instructions(monkeypatch, flags, dtype):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset(flags))
    assert precision.compute_dtype("cpu") is dtype
    with precision.autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype


def test_cuda_computes_in_bfloat16():
    assert precision.compute_dtype("cuda") is torch.bfloat16


def test_the_environment_can_overrule(monkeypatch):
    monkeypatch.setenv("VLA_POLICY_PRECISION", "float32")
    assert precision.compute_dtype("cuda") is torch.float32


def test_the_flash_kernel_is_left_out_only_where_it_is_slow(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert precision.attention(torch.device("cpu")) == "eager"
    assert precision.attention(torch.device("cuda")) == "sdpa"
    precision.compute_dtype.cache_clear()
    monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset())
    assert precision.attention(torch.device("cpu")) == "sdpa"
