"""Parts of a batch on several threads: same answers, same order."""

import threading

import numpy as np
import pytest
import torch

from vla_rl_trainer import cpu_threads

pytestmark = pytest.mark.usefixtures("in_float32")


@pytest.fixture
def inputs(policy):
    rng = np.random.default_rng(0)
    rows, robot = 2 * cpu_threads.PART + 3, policy.embodiment
    camera = robot.cameras[0]
    images = rng.integers(0, 256, (rows, len(robot.cameras), camera.height, camera.width, 3), np.uint8)
    states = rng.uniform(-0.1, 0.1, (rows, robot.num_joints)).astype(np.float32)
    return policy.inputs_from_arrays(images, states, ["press the bell", "lift it"] * (rows // 2) + ["lift it"])


def test_a_batch_answered_in_parts_is_answered_as_a_whole(policy, inputs, two_threads):
    with two_threads, torch.no_grad():
        cpu_threads.answer_in_parts(policy)
        assert policy.answer is not policy.network
        answers = policy.answer(inputs)
    assert torch.allclose(answers, policy.network(inputs), atol=1e-4)
    assert not answers.requires_grad


def test_results_come_in_the_order_of_the_parts_from_threads_that_use_one_core_each(two_threads):
    first_may_end = threading.Event()

    def work(number):
        if number == 0:
            assert first_may_end.wait(60.0)
        first_may_end.set()
        return number, torch.get_num_threads()

    with two_threads:
        assert list(cpu_threads.in_parts(work, range(5))) == [(number, 1) for number in range(5)]
        assert torch.get_num_threads() == 2


def test_a_gpu_and_a_single_thread_take_the_batch_as_it_is(policy, two_threads):
    with two_threads:
        assert cpu_threads.count(torch.device("cuda")) == 1
        torch.set_num_threads(1)
        cpu_threads.answer_in_parts(policy)
    assert policy.answer is policy.network
