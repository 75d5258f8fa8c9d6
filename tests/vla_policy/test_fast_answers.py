"""Recorded answers: the network's own, for every batch, with the weights of the moment; and never a wrong one."""

import copy
import dataclasses

import pytest
import torch

from vla_policy import fast_answers
from vla_policy.errors import VlaError
from vla_policy.fast_answers import FastAnswers, GraphPool, accelerate, fuse
from vla_policy.inputs import PolicyInputs
from vla_policy.network import VlaNetwork


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.float32)


@pytest.fixture
def network(config):
    torch.manual_seed(0)
    return VlaNetwork(config).eval()


class Tape:
    """Stands for CUDA graphs: computes the same thing on the same buffers into the same tensor."""

    def __init__(self):
        self.shapes = []

    def record(self, compute, buffers):
        self.shapes.append(tuple(buffers[1].shape))
        answer = torch.full_like(compute(buffers), torch.nan)

        def replay():
            return answer.copy_(compute(buffers))

        return replay


def make_inputs(config, count, length=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PolicyInputs(
        images_BCHW3=torch.randint(
            0, 256, (count, config.num_cameras, 8, 8, 3), generator=generator, dtype=torch.uint8
        ),
        prompt_BL=torch.randint(4, 300, (count, length), generator=generator),
        prompt_mask_BL=torch.ones(count, length, dtype=torch.bool),
        state_BS=torch.rand(count, config.state_dim, generator=generator) * 2 - 1,
    )


@torch.no_grad()
def test_answers_are_the_networks_own_and_shapes_are_recorded_once(config, network):
    tape = Tape()
    answers = FastAnswers(network, tape.record)
    for count, length, seed in ((1, 5, 0), (3, 5, 1), (4, 5, 2), (1, 5, 3), (3, 7, 4), (70, 5, 5), (66, 5, 6)):
        inputs = make_inputs(config, count, length, seed)
        assert torch.allclose(answers(inputs), network(inputs), atol=1e-5)
    assert tape.shapes == [(1, 5), (4, 5), (4, 7), (96, 5)]


@torch.no_grad()
def test_padded_prompts_have_recordings_of_their_own(config, network):
    tape = Tape()
    answers = FastAnswers(network, tape.record)
    for seed in (0, 2):
        padded = PolicyInputs.cat([make_inputs(config, 1, 3, seed), make_inputs(config, 2, 5, seed + 1)])
        for inputs in (padded, make_inputs(config, 3, 5, seed)):
            assert torch.allclose(answers(inputs), network(inputs), atol=1e-5)
    assert tape.shapes == [(4, 5), (4, 5)]


@torch.no_grad()
def test_an_answer_is_not_overwritten_by_the_next(config, network):
    answers = FastAnswers(network, Tape().record)
    first = answers(make_inputs(config, 2))
    kept = first.clone()
    answers(make_inputs(config, 2, seed=1))
    assert torch.equal(first, kept)


@torch.no_grad()
def test_weights_that_change_in_place_are_heard_of(config, network):
    answers = FastAnswers(network, Tape().record)
    inputs = make_inputs(config, 2)
    before = answers(inputs)
    for weight in network.parameters():
        weight.mul_(1.1)
    assert torch.allclose(answers(inputs), network(inputs), atol=1e-5)
    assert not torch.allclose(answers(inputs), before, atol=1e-3)


def failing(compute, buffers):
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")


def lying(compute, buffers):
    return lambda: compute(buffers).roll(1, dims=-1)


def poisoned(compute, buffers):
    return lambda: compute(buffers) * torch.nan


@torch.no_grad()
@pytest.mark.parametrize(
    ("record", "reason"),
    [(failing, "RuntimeError: CUDA error: operation not"), (lying, "differs from the network by"), (poisoned, "nan")],
)
def test_what_cannot_be_recorded_is_computed_and_said_once(config, network, record, reason, capsys):
    answers = FastAnswers(network, record)
    for count in (2, 2, 5):
        inputs = make_inputs(config, count)
        assert torch.equal(answers(inputs), network(inputs))
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


@torch.no_grad()
def test_memory_is_not_filled_with_ever_more_shapes(config, network, monkeypatch):
    monkeypatch.setattr(fast_answers, "MAX_GRAPHS", 2)
    tape = Tape()
    answers = FastAnswers(network, tape.record)
    for length in (3, 4, 5, 6, 3):
        inputs = make_inputs(config, 2, length)
        assert torch.allclose(answers(inputs), network(inputs), atol=1e-5)
    assert tape.shapes == [(2, 3), (2, 4)]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the tracer looks
@pytest.mark.parametrize("whole", [True, False])
def test_a_fused_network_is_traced_as_a_whole_or_by_layers_that_share_the_result(config, monkeypatch, whole):
    monkeypatch.setattr(fast_answers, "_COMPILED_WHOLE", 10**9 if whole else 0)
    config = dataclasses.replace(config, num_layers=4)
    torch.manual_seed(0)
    network, inputs = VlaNetwork(config), make_inputs(config, 3)
    expected = network(inputs)
    expected.square().mean().backward()
    gradient = network.llama.layers[0].mlp.up_proj.weight.grad.clone()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # others may have traced before
    with (
        torch._dynamo.config.patch(error_on_recompile=False),
        torch._dynamo.config.patch(accumulated_recompile_limit=6),
    ):
        fuse(network, backend="aot_eager")
        network.zero_grad()
        assert torch.allclose(network(inputs), expected, atol=1e-5)
        network(inputs).square().mean().backward()
    assert torch.allclose(network.llama.layers[0].mlp.up_proj.weight.grad, gradient, rtol=1e-3, atol=1e-7)
    frames = torch._dynamo.utils.counters
    assert not frames["graph_break"]
    assert frames["stats"]["unique_graphs"] == (1 if whole else 2)  # else a layer, and the last one


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the tracer looks
def test_a_fused_network_is_compiled_once_for_all_batches_and_prompts(config, network):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    fused = copy.deepcopy(network)
    fuse(fused, backend)
    longest = 16 - network.num_fixed_tokens % 16
    assert longest > 4
    padded = PolicyInputs.cat([make_inputs(config, 2, 3), make_inputs(config, 10, longest, seed=1)])
    shapes = ((40, 4), (24, 4), (1, 4), (64, longest), (9, 2))
    batches = [make_inputs(config, count, length) for count, length in shapes]
    for inputs in (*batches, padded):
        with torch.no_grad():
            assert torch.allclose(fused(inputs), network(inputs), atol=1e-5)
    assert len(compiled) == 1
    for inputs in (batches[0], batches[2], padded):
        assert torch.allclose(fused(inputs), network(inputs), atol=1e-5)
    assert len(compiled) == 2, "with gradients it is compiled once more"


def test_without_a_gpu_the_network_is_asked_as_it_is(policy):
    for wanted in ("auto", "graphs", "fused", "off"):
        accelerate(policy, wanted)
        assert policy.answer is policy.whole
    with pytest.raises(VlaError, match="choose one of auto, off, graphs, fused"):
        accelerate(policy, "fast")


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this computer; run again where there is one"
)
@torch.no_grad()
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")  # float32 is meant
@pytest.mark.filterwarnings(r"ignore:\s*Online softmax is disabled:UserWarning")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a .functools.lru_cache:UserWarning")
@pytest.mark.parametrize("wanted", ["graphs", "fused"])
def test_a_gpu_replays_what_its_network_answers(config, network, wanted, capsys):
    network = network.to("cuda")
    if wanted == "fused":
        fuse(network)
    answers = FastAnswers(network, GraphPool(torch.device("cuda")).record)
    for count in (1, 3, 3):
        inputs = make_inputs(config, count, seed=count).to("cuda")
        answered, computed = (torch.log_softmax(one(inputs), -1) for one in (answers, network))
        assert torch.allclose(answered, computed, atol=0.1)
    assert capsys.readouterr().err == ""
