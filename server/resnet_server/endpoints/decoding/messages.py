"""What crosses the border between the server and a decoder's process: numbers and bytes, since a decoder may fall to hostile bytes.

A task is `TASK`, the manifest's `Input`, the lengths of the images and the images. The answers are one for each image, in order:
`ANSWER` and as many bytes as it says. `NEEDS` is followed by a wait for `GRANT` from the server, and then by the image's answer.
"""

import struct

TASK = struct.Struct("<BdIIQQ")
"""The lane, seconds of processor time, bytes of the `Input`, images, and the most pixels and the most bytes that an image may take."""
LENGTH = struct.Struct("<Q")
ANSWER = struct.Struct("<cQ")
ROWS, WRONG, HEAVY, NEEDS = b"R", b"W", b"H", b"N"
"""Pixels; a text; an image that is not for this lane; as a `LENGTH`, the bytes that decoding takes."""
GRANT = b"G"
HELLO = struct.Struct("<I")
"""The process id, once it is ready."""
FORKED = b"F"
"""The template's answer to each message."""
QUICK, SLOW = 0, 1
LONGEST_TEXT = 500
