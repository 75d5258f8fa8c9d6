"""ROS 2 side of the policy: messages, parameters, and the node that runs a checkpoint."""
