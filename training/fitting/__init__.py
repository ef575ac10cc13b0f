"""The optimisation: steps, epochs, schedule, checkpoints, and what may be added to them."""
