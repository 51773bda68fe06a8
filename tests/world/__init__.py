"""The harness of tests that tell a story: a scenario, a product, a clock that we hold, faults at named points."""
