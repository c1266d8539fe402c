"""What crosses the border between the server and an engine's process: a few bytes a batch, over a socket that keeps messages whole.

To the engine: a slot, a number of rows, and whether nothing else runs. Back: `ready` once, then a slot and the seconds it took;
or an error's text with its slot, or without one if the engine cannot start.
"""

import struct

ORDER = struct.Struct("<IIB")
DONE = struct.Struct("<cId")
FAILED = struct.Struct("<cI")
READY, ANSWER, ERROR, BROKEN = b"R", b"A", b"E", b"B"
LONGEST = 4096
