"""Who and what exists: grid, enterprises, points, people, duty; and the clock."""
