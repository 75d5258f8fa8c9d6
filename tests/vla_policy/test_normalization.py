"""Statistics files and the map to [-1, 1]."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.errors import VlaError
from vla_policy.normalization import (
    DatasetStatistics,
    Statistics,
    normalise,
    read_statistics,
    un_normalise,
    write_statistics,
)

DATA = np.random.default_rng(0).normal([0.0, 3.0, -1.0], [1.0, 0.1, 20.0], (500, 3))
MEASURED = Statistics.of(DATA)


def test_bounds_map_min_and_max_to_the_ends():
    ends = normalise(np.stack([MEASURED.min, MEASURED.max]), MEASURED, "bounds")
    assert ends == pytest.approx(np.array([[-1.0] * 3, [1.0] * 3]), abs=1e-5)


def test_bounds_q99_maps_the_percentiles_to_the_ends_and_clips_beyond():
    rows = np.stack([MEASURED.q01, MEASURED.q99, MEASURED.max + 100])
    assert normalise(rows, MEASURED, "bounds_q99") == pytest.approx(
        np.array([[-1.0] * 3, [1.0] * 3, [1.0] * 3]), abs=1e-5
    )


def test_masked_dimensions_pass_through():
    statistics = Statistics.of(DATA, mask=[True, False, True])
    values = np.array([0.5, 123.0, 2.0])
    assert normalise(values, statistics, "bounds")[1] == 123.0
    assert un_normalise(values, statistics, "bounds")[1] == 123.0


def test_constant_dimensions_become_zero_and_come_back_as_the_constant():
    statistics = Statistics.of([[1.5, 0.0], [1.5, 1.0]])
    assert normalise([1.5, 0.5], statistics, "bounds") == pytest.approx([0.0, 0.0], abs=1e-6)
    for value in (-1.0, 0.0, 1.0):
        assert un_normalise([value, 0.0], statistics, "bounds")[0] == pytest.approx(1.5)


def test_the_formula_is_openvlas():
    statistics = Statistics.of([[0.0], [2.0]])
    assert un_normalise([0.25], statistics, "bounds")[0] == pytest.approx(0.5 * 1.25 * (2.0 + 1e-8))


@given(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), st.sampled_from(["bounds", "bounds_q99"]))
def test_normalise_undoes_un_normalise(values, scheme):
    back = normalise(un_normalise(values, MEASURED, scheme), MEASURED, scheme)
    assert back == pytest.approx(np.array(values), abs=1e-4)


def test_leading_axes_are_kept():
    assert normalise(np.zeros((2, 5, 3)), MEASURED, "bounds").shape == (2, 5, 3)


def test_statistics_survive_the_file(tmp_path):
    path = tmp_path / "dataset_statistics.json"
    dataset = DatasetStatistics(action=MEASURED, proprio=MEASURED, num_transitions=500, num_trajectories=4)
    write_statistics(path, {"demos": dataset})
    back = read_statistics(path, "demos")
    assert back.to_dict() == dataset.to_dict()
    assert np.array_equal(back.action.q01, MEASURED.q01)


def test_a_published_file_without_proprio_mask_is_read(tmp_path):
    fields = {name: values for name, values in MEASURED.to_dict().items() if name != "mask"}
    path = tmp_path / "dataset_statistics.json"
    path.write_text(json.dumps({"libero": {"action": MEASURED.to_dict(), "proprio": fields, "num_transitions": 1}}))
    assert read_statistics(path, "libero").proprio.mask.all()


def test_an_unknown_key_lists_those_there_are(tmp_path):
    path = tmp_path / "dataset_statistics.json"
    dataset = DatasetStatistics(action=MEASURED, proprio=MEASURED, num_transitions=1, num_trajectories=1)
    write_statistics(path, {"press_bell": dataset, "lift_cube": dataset})
    with pytest.raises(VlaError, match=r"'stack'.*press_bell, lift_cube"):
        read_statistics(path, "stack")


def test_damaged_files_are_refused_by_name(tmp_path):
    path = tmp_path / "dataset_statistics.json"
    with pytest.raises(VlaError, match=r"dataset_statistics.json cannot be read"):
        read_statistics(path, "demos")
    path.write_text('{"demos": {"action": {"mean": [0.0]}, "proprio": {}}}')
    with pytest.raises(VlaError, match=r"'demos'.*lack 'std'"):
        read_statistics(path, "demos")


def test_unequal_lengths_and_nan_are_refused():
    fields = MEASURED.to_dict()
    with pytest.raises(VlaError, match="'q99' has shape"):
        Statistics.from_dict({**fields, "q99": [1.0]})
    with pytest.raises(VlaError, match="'mean' is not finite"):
        Statistics.from_dict({**fields, "mean": [np.nan, 0.0, 0.0]})


def test_no_data_and_unknown_schemes_are_refused():
    with pytest.raises(VlaError, match="no data"):
        Statistics.of(np.zeros((0, 3)))
    with pytest.raises(VlaError, match="bounds, bounds_q99"):
        normalise([0.0] * 3, MEASURED, "zscore")  # pyright: ignore[reportArgumentType]
