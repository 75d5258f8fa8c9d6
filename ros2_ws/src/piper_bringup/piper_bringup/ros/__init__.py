"""ROS 2 side of the body: its nodes, and graphs of them as launch descriptions."""
