"""The CAN bus of a Piper: frames, and a bus without kernel CAN."""
