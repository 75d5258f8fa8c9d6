"""ROS 2 side of the trainer: evaluation of a policy on a robot graph."""
