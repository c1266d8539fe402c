"""Errors of this package; each is one line for people."""


class ExportError(Exception):
    """Base of all errors a user can cause; the command line prints it and exits with status 1."""


class ParityError(ExportError):
    """The exported graph does not compute what the network computes; nothing was published."""


class RepositoryError(ExportError):
    """The repository cannot take the version: it exists, its name is not one, or the disk refuses."""
