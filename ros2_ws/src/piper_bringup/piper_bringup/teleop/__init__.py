"""Leading the robot by hand: leader arms, keyboard, gamepad; and the twin's scripted experts in a person's place."""
