"""How close the server comes to the machine's limit: `limit`, `soak` and `overload`."""
