"""Other servers on the same file and cores, each in an environment of its own."""
