"""An engine in a process of its own, fed through shared memory."""
