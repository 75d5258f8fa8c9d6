"""What SimpleVLA-RL claims, asked of our own suite: one file an experiment, with its claim and how it is judged."""
