"""Where orders go: the port, the matching engine and the venues."""
