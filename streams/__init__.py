"""Readings to findings: the point rules."""
