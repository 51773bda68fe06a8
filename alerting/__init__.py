"""Findings to people: lifecycle, confirmation, escalation, store, outbox, channels."""
