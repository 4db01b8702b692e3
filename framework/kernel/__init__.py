"""Mailbox, actor, bus, supervisor and virtual time; knows nothing of trading."""
