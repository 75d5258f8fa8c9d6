"""The twin's second backend: all worlds side by side in mujoco_warp, on a GPU, or slowly but correctly on the CPU."""
