"""The policy as a robot, a rollout and a learner use it."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vla_policy import decoding
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy

EVERY = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def with_frame(policy, frame):
    config = dataclasses.replace(policy.config, action_frame=frame)
    return VlaPolicy(policy.network, config, policy.statistics, policy.embodiment, policy.tokenizer)


def batch(policy, observe, count=3):
    seen = observe(count)
    return policy.inputs(seen), np.stack([one.state for one in seen])


def test_infer_answers_every_observation(policy, observe, robot):
    chunks = policy.infer(observe(3))
    assert [chunk.stamp for chunk in chunks] == [0.0, 1.0, 2.0]
    for chunk in chunks:
        assert chunk.actions.shape == (2, 3)
        assert chunk.actions.dtype == np.float32
        assert chunk.period == robot.control_period
    assert policy.infer([]) == []


def test_a_batch_is_answered_as_its_members_are(policy, observe):
    seen = observe(3)
    together = policy.infer(seen)
    for chunk, one in zip(together, seen, strict=True):
        assert policy.infer([one])[0].actions == pytest.approx(chunk.actions, abs=2e-2)


def test_the_array_entrance_equals_the_observation_entrance(policy, observe, robot):
    seen = observe(3)
    images = np.stack([[one.images[name] for name in robot.camera_names] for one in seen])
    states = np.stack([one.state for one in seen])
    arrays = policy.inputs_from_arrays(images, states, [one.instruction for one in seen])
    objects = policy.inputs(seen)
    for field in dataclasses.fields(objects):
        assert torch.equal(getattr(arrays, field.name), getattr(objects, field.name))


def test_images_that_are_a_tensor_on_the_device_are_taken_as_they_are(policy):
    images, state = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 16, 3), np.uint8), np.zeros((1, 3), np.float32)
    tensor = torch.from_numpy(images)
    inputs = policy.inputs_from_arrays(tensor, state, ["press"])
    assert inputs.images_BCHW3.data_ptr() == tensor.data_ptr()
    assert torch.equal(inputs.images_BCHW3, policy.inputs_from_arrays(images, state, ["press"]).images_BCHW3)
    with pytest.raises(VlaError, match=r"images are torch\.float32"):
        policy.inputs_from_arrays(tensor.float(), state, ["press"])


def test_inputs_are_copies(policy, robot):
    images = np.zeros((1, 2, 16, 16, 3), np.uint8)
    inputs = policy.inputs_from_arrays(images, np.zeros((1, 3), np.float32), ["press"])
    images[:] = 255
    assert inputs.images_BCHW3.max() == 0


@pytest.mark.parametrize("frame", ["absolute", "relative"])
@EVERY
@given(seed=st.integers(0, 10_000))
def test_decode_undoes_encode_within_half_a_bin(policy, frame, seed):
    policy = with_frame(policy, frame)
    rng = np.random.default_rng(seed)
    state = rng.uniform([-1, -1, 0], [1, 1, 0.07], (4, 3)).astype(np.float32)
    low, high = policy.statistics.action.min, policy.statistics.action.max
    offset = np.where([True, True, False], state, 0)[:, None] if frame == "relative" else 0
    actions = rng.uniform(low, high, (4, 2, 3)) + offset
    back = policy.decode_indices(policy.encode_actions(actions, state), state)
    assert np.all(np.abs(back - actions) <= (high - low) / 510 + 1e-5)


def test_tensors_and_arrays_decode_alike(policy):
    indices = np.arange(12).reshape(2, 2, 3) * 20
    state = np.zeros((2, 3))
    assert np.array_equal(policy.decode_indices(indices, state), policy.decode_indices(torch.tensor(indices), state))


def test_relative_targets_move_with_the_arm_and_openings_do_not(policy):
    indices = np.full((1, 2, 3), 128)
    moved = policy.decode_indices(indices, np.array([[0.5, -0.5, 0.05]])) - policy.decode_indices(
        indices, np.zeros((1, 3))
    )
    assert moved == pytest.approx(np.broadcast_to([0.5, -0.5, 0.0], (1, 2, 3)), abs=1e-6)


def test_sampled_log_probs_equal_the_learners(policy, observe):
    inputs, states = batch(policy, observe)
    sampled = policy.sample(inputs, states, 1.6, torch.Generator().manual_seed(0))
    again = policy.log_probs(inputs, sampled.indices_BKA, 1.6)
    assert again.requires_grad
    assert torch.equal(sampled.log_probs_BKA, again)
    assert np.array_equal(sampled.actions_BKA, policy.decode_indices(sampled.indices_BKA, states))


def test_the_learner_may_use_other_batches(policy, observe):
    inputs, states = batch(policy, observe)
    sampled = policy.sample(inputs, states, 1.6)
    alone = policy.log_probs(inputs[1:2], sampled.indices_BKA[1:2], 1.6)
    assert torch.allclose(sampled.log_probs_BKA[1:2], alone, atol=0.02)


def test_sampling_is_reproduced_by_its_generator(policy, observe):
    inputs, states = batch(policy, observe)
    first, second = (policy.sample(inputs, states, 1.0, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.indices_BKA, second.indices_BKA)
    assert not torch.equal(first.indices_BKA, policy.sample(inputs, states, 1.0).indices_BKA)


def test_act_uses_the_configured_decoding(policy, observe):
    inputs, states = batch(policy, observe)
    with torch.no_grad():
        logits = policy.network(inputs)
    policy.decoding = "argmax"
    assert np.array_equal(policy.act(inputs, states), policy.decode_indices(decoding.argmax(logits), states))
    policy.decoding = "expectation"
    mean = torch.softmax(logits, -1) @ torch.tensor(policy._bins.centres)
    assert policy.act(inputs, states) == pytest.approx(policy.decode_values(mean, states), abs=1e-5)
    policy.decoding = "sample"
    assert not np.array_equal(policy.act(inputs, states), policy.act(inputs, states))


def test_create_is_reproduced_by_its_seed_and_leaves_torchs_generator_alone(policy):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    again = VlaPolicy.create(policy.config, policy.embodiment, policy.statistics, policy.tokenizer, seed=0)
    other = VlaPolicy.create(policy.config, policy.embodiment, policy.statistics, policy.tokenizer, seed=1)
    assert torch.equal(torch.rand(1), expected)
    for name, tensor in policy.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
    assert not torch.equal(other.network.head.weight, again.network.head.weight)


def test_a_missing_camera_is_named(policy, observe):
    seen = observe(1)[0]
    blind = dataclasses.replace(seen, images={"head": seen.images["head"]})
    with pytest.raises(VlaError, match=r"no camera 'wrist'.*head"):
        policy.infer([blind])


def test_images_of_different_sizes_are_refused(policy, observe):
    seen = observe(1)[0]
    odd = dataclasses.replace(seen, images={**seen.images, "wrist": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(VlaError, match="one size"):
        policy.infer([odd])


@pytest.mark.parametrize(
    "images, state, what",
    [
        (np.zeros((1, 2, 16, 16, 3), np.float32), np.zeros((1, 3)), "uint8"),
        (np.zeros((1, 1, 16, 16, 3), np.uint8), np.zeros((1, 3)), "images"),
        (np.zeros((1, 2, 16, 16, 3), np.uint8), np.zeros((1, 4)), "states"),
        (np.zeros((1, 2, 16, 16, 3), np.uint8), np.full((1, 3), np.nan), "finite"),
    ],
)
def test_arrays_of_the_wrong_shape_are_refused(policy, images, state, what):
    with pytest.raises(VlaError, match=what):
        policy.inputs_from_arrays(images, state, ["press"])


def test_an_unknown_decoding_is_refused(policy):
    parts = (policy.network, policy.config, policy.statistics, policy.embodiment, policy.tokenizer)
    with pytest.raises(VlaError, match="expectation, argmax, sample"):
        VlaPolicy(*parts, decoding="beam")  # pyright: ignore[reportArgumentType]
