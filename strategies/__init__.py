"""Strategies that ship with Tidebook."""
