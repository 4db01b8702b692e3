"""A venue that lives elsewhere: in a process of its own, with a line for orders and a kill line that needs nobody else."""
