"""Videos of several policies in the same worlds, one column a policy: before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from piper_twin.episode import Episode
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.report import Paragraph, Video, Videos


def film_side_by_side(
    benchmark: Benchmark, policies: Mapping[str, Path], episodes: Sequence[Episode]
) -> Videos | Paragraph:
    """Film every policy in every world.

    Args:
        benchmark: Of the episodes' tasks.
        policies: What a policy is called, and its checkpoint.
        episodes: A row each.
    """
    if not episodes:
        return Paragraph("No videos were asked for.")
    films: dict[tuple[Episode, str], Video] = {}
    with Progress("filming", len(policies) * len(episodes)) as progress:
        for name, folder in policies.items():
            policy = VlaPolicy.load(folder, pick_device(), benchmark.embodiment)
            studio = benchmark.film_studio(policy.config)
            for episode in episodes:
                mp4, success = studio.film(policy, episode)
                ended = "success" if success else "failure"
                films[episode, name] = Video(f"{episode.task}, world {episode.seed}, {name}: {ended}", mp4)
                progress.advance()
            studio.close()
    return Videos([films[episode, name] for episode in episodes for name in policies], columns=len(policies))
