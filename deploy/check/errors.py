"""The one error of the check."""


class CheckError(Exception):
    """Something does not hold, or cannot be tried; the message is one line for a person."""
