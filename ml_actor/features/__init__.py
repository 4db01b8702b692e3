"""Features: one kernel for training and serving."""
