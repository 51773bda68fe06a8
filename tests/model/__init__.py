"""Slow, plain models of the engines, written from the rules and not from the engines."""
