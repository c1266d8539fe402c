"""The same file on the same cores behind other servers: `peers`."""
