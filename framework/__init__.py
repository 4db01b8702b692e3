"""The trading process."""
