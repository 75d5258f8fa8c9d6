"""GRPO over several machines, through Ray: worlds, policies that sample, and the learner, each where it fits."""
