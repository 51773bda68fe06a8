"""Benchmarks: they print a table and write build/bench.json; nothing here is a test."""
