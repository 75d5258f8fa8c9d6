"""The page that shows the robot."""
