"""What crosses the border between a server and an engine's process, over sockets that keep messages whole.

The owner's socket: to the engine, `CHANNEL` with two descriptors (a socket, and the memory of its slots); back, `READY` once or
`BROKEN` with the reason. On each channel a few bytes a batch: a slot, a number of rows, whether nothing else runs, and
which network computes; back, the slot and the seconds it took, or the slot and an error's text.
"""

import struct

ORDER = struct.Struct("<IIBB")
DONE = struct.Struct("<cId")
FAILED = struct.Struct("<cI")
READY, ANSWER, ERROR, BROKEN, CHANNEL = b"R", b"A", b"E", b"B", b"C"
LONGEST = 4096
DEPTH = 2
"""SharedSlots of a channel: the next batch lies ready when one ends."""
