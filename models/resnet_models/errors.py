"""Errors of this package: each is one line that names what was found and what was expected."""


class ResnetModelsError(Exception):
    """Base of all errors a user can cause; command lines print it and exit with status 1."""


class UnknownVariantError(ResnetModelsError):
    """A network name that is not in the table of variants."""


class CheckpointError(ResnetModelsError):
    """A checkpoint that cannot be read, or that does not fit the network it is loaded into."""


class DataError(ResnetModelsError):
    """Training or test data that are missing, truncated or not what the format says."""


class DivergedError(ResnetModelsError):
    """The training loss became NaN or infinite; the last good checkpoint is untouched."""
