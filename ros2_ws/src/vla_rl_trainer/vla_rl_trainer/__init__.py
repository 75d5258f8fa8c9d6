"""The gym: vector environments, datasets, supervised fine-tuning, GRPO, evaluation."""
