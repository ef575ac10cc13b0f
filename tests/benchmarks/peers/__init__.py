"""What people usually write: the same model and the same answer, plainly. No logs, no limits."""
