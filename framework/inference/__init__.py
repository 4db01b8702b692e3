"""The trading side of the ML link."""
