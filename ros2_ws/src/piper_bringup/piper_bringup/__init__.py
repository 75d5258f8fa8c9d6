"""The body: drivers, control loop, recorder and launch files for two real Piper arms."""
