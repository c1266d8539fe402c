"""Processes of the server: children at the other end of a socket, and each one's event loop."""
