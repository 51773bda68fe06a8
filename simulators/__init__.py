"""Plants and load: what a test needs instead of a city; imports nothing of the product."""
