"""ModelInfer, once for every transport: a message is checked, queued and answered where its call lives, without an event loop between."""

from functools import lru_cache

from resnet_server.batching.batcher import Batcher
from resnet_server.batching.row_queue import Ticket
from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.error_status import Border, CallRecord
from resnet_server.endpoints.grpc.known_requests import Checked, KnownRequests, parse
from resnet_server.endpoints.parameters import read_parameters
from resnet_server.endpoints.tensors import AnswerEncoder, check_outputs, decode_rows
from resnet_server.engines.api import Images
from resnet_server.errors import ServingError
from resnet_server.models.registry import Registry
from resnet_server.transport.api import DirectCall


class ModelInfer:
    """The method; see `tensors` for what is checked of a request."""

    def __init__(self, registry: Registry, border: Border) -> None:
        self._registry = registry
        self._border = border
        self._encoder = lru_cache(AnswerEncoder)
        self._known_requests = KnownRequests()

    def __call__(self, message: bytes, call: DirectCall) -> None:
        """Begin one inference; whatever goes wrong is answered."""
        record = self._border.record("ModelInfer", call.arrived)
        try:
            checked, rows = self._understand(message, record)
            deadline = self._border.deadline(call, checked.parameters.timeout_us)
            Inference(self._border, record, call, checked, self._encoder(checked.model)).begin(rows, deadline)
        except Exception as error:  # the border knows what each is worth to the caller
            call.refuse(*self._border.refusal(record, error))

    def _understand(self, message: bytes, record: CallRecord) -> tuple[Checked, Images]:
        self._registry.check_open()
        checked, rows = self._known_requests.recognise(message) or self._read(message, record)
        record.model, record.version = checked.model.name, checked.model.version
        return checked, rows

    def _read(self, message: bytes, record: CallRecord) -> tuple[Checked, Images]:
        request = parse(message)
        parameters = read_parameters(request)
        model = self._registry.find(request.model_name, request.model_version, parameters.precision)
        record.model, record.version = model.name, model.version
        rows = decode_rows(request, model.manifest, model.batcher.limits.max_request)
        checked = Checked(model, parameters, request.id, check_outputs(request, model.manifest), rows.shape)
        self._known_requests.remember(message, request, checked)
        return checked, rows


class Inference:
    """One call between its check and its answer: a `Waiter` that answers its own call."""

    __slots__ = ("_batcher", "_border", "_call", "_checked", "_encoder", "_record", "_ticket", "defer", "post")

    def __init__(self, border: Border, record: CallRecord, call: DirectCall, checked: Checked, encoder: AnswerEncoder) -> None:
        self._border, self._record, self._call = border, record, call
        self._checked, self._encoder = checked, encoder
        self._batcher: Batcher = checked.model.batcher
        self._ticket: Ticket | None = None
        self.post, self.defer = call.post, call.defer

    def begin(self, rows: Images, deadline: float | None) -> None:
        """Queue UINT8 [n, h, w, 3]; raises what `Batcher.submit` raises at the door."""
        self._ticket = ticket = self._batcher.enqueue(rows, deadline, self._checked.parameters.priority, self)
        self._call.on_left = self._leave
        if ticket.over:  # another thread was faster
            self._call.on_left = None

    def settle(self, outcome: Answer | ServingError) -> None:
        """See `Waiter.settle`."""
        if isinstance(outcome, ServingError):
            self._refuse(outcome)  # not raised: its traceback would hold the call
            return
        try:
            message = self._encoder.encode(self._checked.identity, outcome.logits, self._checked.top_k)
            self._border.answered(self._record)
            self._call.answer(message)
        except Exception as error:  # the other answers of this batch must not miss theirs
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._call.refuse(*self._border.refusal(self._record, error))

    def _leave(self) -> None:
        if self._ticket is not None and self._batcher.leave(self._ticket):
            self._border.left(self._record)
