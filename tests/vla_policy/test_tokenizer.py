"""OpenVLA's 256 bins, against the test vectors of the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.errors import VlaError
from vla_policy.tokenizer import ActionTokenizer

TOKENIZER = ActionTokenizer()


def test_ids_of_the_reference_values_match():
    assert TOKENIZER.encode([1.0, 0.0, -1.0]).tolist() == [31744, 31872, 31999]


def test_values_of_the_reference_ids_match():
    values = TOKENIZER.decode([31744, 31745, 31872, 31999])
    assert values == pytest.approx([0.996078, 0.996078, 0.0, -0.996078], abs=1e-6)


def test_a_larger_id_is_a_smaller_action():
    assert np.all(np.diff(TOKENIZER.decode(np.arange(31745, 32000))) < 0)


def test_indices_are_ids_counted_from_the_first():
    values = np.linspace(-1, 1, 1001)
    assert np.array_equal(TOKENIZER.encode_index(values), TOKENIZER.encode(values) - 31744)
    assert TOKENIZER.encode_index([1.0, -1.0]).tolist() == [0, 255]


def test_centres_are_the_values_of_the_indices():
    assert TOKENIZER.centres.shape == (256,)
    assert np.array_equal(TOKENIZER.centres, TOKENIZER.decode_index(np.arange(256)))


def test_ids_outside_the_action_range_count_as_the_nearest():
    assert np.array_equal(TOKENIZER.decode([0, 40000]), TOKENIZER.decode([31744, 31999]))


def test_nan_is_refused():
    with pytest.raises(VlaError, match="NaN"):
        TOKENIZER.encode([0.0, np.nan])


@given(st.floats(-1, 1))
def test_a_value_survives_within_half_a_bin(value):
    assert abs(float(TOKENIZER.decode(TOKENIZER.encode(value))) - value) <= 1 / 255 + 1e-6


@given(st.integers(1, 255))
def test_every_id_but_the_doubled_one_survives(index):
    assert TOKENIZER.encode_index(TOKENIZER.decode_index(index)) == index


@given(st.floats(min_value=1, allow_infinity=True))
def test_values_outside_are_clipped(value):
    assert TOKENIZER.encode_index([value, -value]).tolist() == [0, 255]
