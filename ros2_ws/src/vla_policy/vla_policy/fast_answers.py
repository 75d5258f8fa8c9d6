"""Answers without the time that Python takes to ask for every product: a forward pass recorded once, then replayed.

A network of seven billion weights answers one observation in some thousand kernels; asking for them one by one takes
longer than they do (30 ms of 7 on an H200). A CUDA graph asks once. It holds for one shape: batches are filled up to
the next of a few sizes with copies of their last row, and every length of prompt has graphs of its own.

`graphs` records what the network does anyway. `fused` has `torch.compile` merge norms, activations and additions into
fewer kernels first, for the learner too: a network of ours as a whole and once for all batches, one of billions of
weights layer by layer, which being alike share the result. Recorded answers are compared with the network's own before
they are trusted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_policy.errors import VlaError
from vla_policy.inputs import PolicyInputs
from vla_policy.sequence import ActionSequence

if TYPE_CHECKING:
    from vla_policy.policy import VlaPolicy

Compile = Literal["auto", "off", "graphs", "fused"]
"""auto: graphs on a GPU, off elsewhere."""

MAX_GRAPHS = 32
"""Shapes that are kept; further ones are computed without a graph."""
_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_NUM_WARM_UPS = 3
_COMPILED_WHOLE = 10**9
"""Weights up to which a network is compiled as a whole."""
_LENGTH_STEP = 16
"""The sequences of a compiled network are multiples of so many tokens."""
_FEWEST_ROWS = 8
"""Of a batch of a compiled network."""
_TOLERANCE = 0.25
"""Of log-probabilities: other kernels round otherwise, and a wrong graph is wrong by far more."""

Tensors = tuple[Tensor, ...]
Compute = Callable[[Tensors], Tensor]
Record = Callable[[Compute, Tensors], Callable[[], Tensor]]
"""Take hold of a computation on tensors that stay where they are; what comes back does it again."""


class FastAnswers:
    """A network's logits, replayed where its inputs have been seen in that shape before."""

    def __init__(self, network: ActionSequence, record: Record) -> None:
        """Answer for `network`, whose weights may go on changing in place."""
        self._network = network
        self._record = record
        self._recordings: dict[tuple[int, ...], tuple[Tensors, Callable[[], Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, inputs: PolicyInputs) -> Tensor:
        """As the network's `forward`, without gradients."""
        if self._record is _none:
            return self._network(inputs)
        rows = len(inputs)
        given = _tensors(inputs)
        key = (_size_for(rows), *given[1].shape[1:], len(given), *given[0].shape[1:])
        if key not in self._recordings:
            if len(self._recordings) == MAX_GRAPHS:
                return self._network(inputs)
            if not self._take(key, given):
                return self._network(inputs)
        buffers, replay = self._recordings[key]
        for buffer, tensor in zip(buffers, given, strict=True):
            buffer[:rows].copy_(tensor, non_blocking=True)
        return replay()[:rows].clone()

    def _take(self, key: tuple[int, ...], given: Tensors) -> bool:
        """Record a shape; where that fails, all is computed without recordings from then on, and one line says why."""
        buffers = tuple(_with_rows(tensor, key[0]).clone() for tensor in given)
        expected = torch.log_softmax(self._compute(buffers), dim=-1)
        try:
            replay = self._record(self._compute, buffers)
            error = float((torch.log_softmax(replay(), dim=-1) - expected).abs().max())
        except Exception as failed:  # compilers and drivers raise whatever they like
            return self._give_up(f"{type(failed).__name__}: {str(failed).splitlines()[0] if str(failed) else ''}")
        if not error < _TOLERANCE:
            return self._give_up(f"what was recorded differs from the network by {error:.2g}")
        self._recordings[key] = (buffers, replay)
        return True

    def _give_up(self, reason: str) -> bool:
        print(f"the network answers without recordings, slower: {reason}", file=sys.stderr)
        self._record, self._recordings = _none, {}
        return False

    def _compute(self, given: Tensors) -> Tensor:
        images, prompt, state, *mask = given
        return self._network.compute(images, prompt, mask[0] if mask else None, state)


def accelerate(policy: VlaPolicy, wanted: Compile) -> None:
    """Choose how a policy answers from now on; without a GPU its network is asked as it is, whatever is wanted."""
    if wanted not in ("auto", "off", "graphs", "fused"):
        raise VlaError(f"compile is '{wanted}'; choose one of auto, off, graphs, fused")
    policy.answer = policy.whole
    if policy.device.type == "cuda" and wanted != "off":
        if wanted == "fused":
            fuse(policy.whole)
        policy.answer = FastAnswers(policy.whole, GraphPool(policy.device).record)


def fuse(network: ActionSequence, backend: Any = "inductor") -> None:
    """Compile a network; the first call takes up to a minute, with gradients and without."""
    import torch._dynamo as dynamo

    # All kinds of layers run the same few lines of transformers, which count as one function: four kinds, each for
    # every size of batch, with gradients and without.
    dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, 8 * len(_SIZES))
    if sum(weight.numel() for weight in network.parameters()) < _COMPILED_WHOLE:
        import torch._inductor.config as inductor

        inductor.triton.coalesce_tiling_analysis = False  # torch 2.11 fails in it where batches may have any size
        cast("Any", network).compute = _compiled_once(network, backend)
        return
    for layers in [module for module in network.modules() if isinstance(module, nn.ModuleList)]:
        for layer in layers:
            layer.compile(dynamic=False, backend=backend)


def _compiled_once(network: ActionSequence, backend: Any) -> Callable[..., Tensor]:
    """Compile a network's `compute` for batches of any size and, by steps, any length of prompt, padded or not.

    Every form of its arguments would be compiled by itself, for half a minute each. So there is one: a mask always,
    prompts filled up to the next of few lengths, and at least so many rows that convolutions do not ask for another.
    Attention takes twice as long where the whole sequence has an odd length (227 instead of 219 tokens, on an H200).
    """
    compiled, fixed = torch.compile(network.compute, backend=backend), network.num_fixed_tokens

    def filled(images: Tensor, prompt: Tensor, mask: Tensor | None, state: Tensor) -> Tensor:
        rows, length = prompt.shape
        mask = torch.ones_like(prompt, dtype=torch.bool) if mask is None else mask
        further = -(fixed + length) % _LENGTH_STEP
        prompt, mask = functional.pad(prompt, (0, further)), functional.pad(mask, (0, further), value=False)
        given = [_with_rows(tensor, _FEWEST_ROWS) for tensor in (images, prompt, mask, state)]
        for tensor in given:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return compiled(*given)[:rows]

    return filled


def _with_rows(tensor: Tensor, count: int) -> Tensor:
    """At least `count` rows; copies of the last one where there are fewer."""
    missing = count - len(tensor)
    return torch.cat((tensor, tensor[-1:].expand(missing, *tensor.shape[1:]))) if missing > 0 else tensor


class GraphPool:
    """CUDA graphs that share their memory: no two run at once, and nothing of one is read after another ran."""

    def __init__(self, device: torch.device) -> None:
        """Record on `device`."""
        self._device = device
        self._pool: Any = None

    def record(self, compute: Compute, buffers: Tensors) -> Callable[[], Tensor]:
        """Record a computation; replaying it writes to the same tensor every time."""
        beside = torch.cuda.Stream(self._device)
        beside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(beside):  # kernels choose their variants and memory before anything is recorded
            for _ in range(_NUM_WARM_UPS):
                compute(buffers)
        torch.cuda.current_stream(self._device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            answer = compute(buffers)
        self._pool = graph.pool()

        def replay() -> Tensor:
            graph.replay()
            return answer

        return replay


def _tensors(inputs: PolicyInputs) -> Tensors:
    mask = inputs.mask_if_padded()
    given = (inputs.images_BCHW3, inputs.prompt_BL, inputs.state_BS)
    return given if mask is None else (*given, mask)


def _size_for(rows: int) -> int:
    """The batch that is recorded for so many rows."""
    step = cast("int", _SIZES[-1])
    return next((size for size in _SIZES if size >= rows), -(-rows // step) * step)


def _none(compute: Compute, buffers: Tensors) -> Callable[[], Tensor]:
    """No recording is possible."""
    raise NotImplementedError
