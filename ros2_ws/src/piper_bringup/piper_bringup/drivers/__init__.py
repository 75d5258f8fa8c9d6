"""What stands between the control loop and the joints: two real arms, the twin, or a fake."""
