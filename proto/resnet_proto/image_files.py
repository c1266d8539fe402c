"""Which files are images, by their names: for all that read folders of people."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})
"""In lower case."""
