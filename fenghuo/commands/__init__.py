"""The subcommands: each file holds one, its options, its help and an example."""
