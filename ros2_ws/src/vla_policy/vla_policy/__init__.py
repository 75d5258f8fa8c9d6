"""The brain: what a policy sees, what it answers, and the network between the two."""
