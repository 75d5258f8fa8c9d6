"""What turns at 200 Hz: states, faults, the guarded stream of commands."""
