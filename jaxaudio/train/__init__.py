"""Training state, steps, loop, checkpoints and devices."""
