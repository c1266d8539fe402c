"""An inference from its message to its answer on the thread that took it in, without an event loop between."""

from resnet_server.batching.batcher import Batcher
from resnet_server.batching.row_queue import Ticket
from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.error_status import Border, Call
from resnet_server.endpoints.grpc.known_requests import Checked
from resnet_server.endpoints.tensors import AnswerEncoder
from resnet_server.engines.api import Images
from resnet_server.errors import ServingError
from resnet_server.transport.call import Call as DirectContext


class DirectInference:
    """A `Waiter` that answers its own call."""

    __slots__ = ("_batcher", "_border", "_call", "_checked", "_context", "_encoder", "_ticket", "defer", "post")

    def __init__(self, border: Border, call: Call, context: DirectContext, checked: Checked, encoder: AnswerEncoder) -> None:
        self._border, self._call, self._context = border, call, context
        self._checked, self._encoder = checked, encoder
        self._batcher: Batcher = checked.model.batcher
        self._ticket: Ticket | None = None
        self.post, self.defer = context.post, context.defer

    def begin(self, rows: Images, deadline: float | None) -> None:
        """Queue UINT8 [n, h, w, 3]; raises what `Batcher.submit` raises at the door."""
        self._ticket = ticket = self._batcher.enqueue(rows, deadline, self._checked.parameters.priority, self)
        self._context.on_left = self._leave
        if ticket.over:  # another thread was faster
            self._context.on_left = None

    def settle(self, outcome: Answer | ServingError) -> None:
        """See `Waiter.settle`."""
        if isinstance(outcome, ServingError):
            self._refuse(outcome)  # not raised: its traceback would hold the call
            return
        try:
            message = self._encoder.encode(self._checked.identity, outcome.logits, self._checked.top_k)
            self._border.answered(self._call)
            self._context.answer(message)
        except Exception as error:  # the other answers of this batch must not miss theirs
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._context.refuse(*self._border.refusal(self._call, error))

    def _leave(self) -> None:
        if self._ticket is not None and self._batcher.leave(self._ticket):
            self._border.left(self._call)
