"""The kinds of plants: each file holds the physics of one, each CSV beside it the points that its units have."""
