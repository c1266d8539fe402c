"""What can go wrong with a request or a start, by meaning; `services.status` maps it to gRPC."""


class ServingError(Exception):
    """Base of all errors that a caller or an operator is told of."""


class InvalidRequestError(ServingError):
    """The request itself is wrong; the text names the field, the value and what was expected."""


class ModelNotFoundError(ServingError):
    """No model or version of that name."""


class ModelUnavailableError(ServingError):
    """The model is there but refused, loading or draining."""


class QueueFullError(ServingError):
    """The queue has no room for the rows; trying again later may succeed."""


class DeadlineError(ServingError):
    """The deadline passed before the rows were computed, or is certain to."""


class EngineError(ServingError):
    """The engine failed or answered something else than it was asked for."""


class StartError(ServingError):
    """The server cannot start with these settings on this machine."""
