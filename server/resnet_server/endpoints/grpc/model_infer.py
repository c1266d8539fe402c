"""ModelInfer, once for every transport: a message is checked, queued and answered where its call lives, without an event loop between."""

from collections.abc import Callable
from functools import lru_cache, partial

from resnet_server.batching.batcher import Batcher
from resnet_server.batching.ticket import Ticket
from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.error_status import Border, CallRecord
from resnet_server.endpoints.grpc.door import Door
from resnet_server.endpoints.grpc.known_requests import Checked, KnownRequests
from resnet_server.endpoints.infer_message import read_message
from resnet_server.endpoints.parameters import read_parameters
from resnet_server.endpoints.tensors import AnswerEncoder, GroupEncoder, check_outputs, decode_rows, encoder_of
from resnet_server.engines.api import Images
from resnet_server.errors import ServingError
from resnet_server.transport.api import DirectCall


class ModelInfer:
    """The method; see `tensors` for what is checked of a request."""

    def __init__(self, border: Border, door: Door) -> None:
        self._registry = door.registry
        self._border = border
        self._door = door
        self._encoder = lru_cache(encoder_of)
        self._known_requests = KnownRequests()
        self._generation = self._registry.generation
        self._registry.watch(self._look)

    def __call__(self, message: bytes, call: DirectCall) -> None:
        """Begin one inference; whatever goes wrong is answered."""
        record, entered = self._border.record("ModelInfer", call.arrived, call), 0
        try:
            self._door.enter(len(message))
            entered = len(message)
            checked, rows = self._understand(message, record)
            self._door.take_rows(call, len(rows))
            deadline = self._border.deadline(call, checked.parameters.timeout_us)
            leave_door = partial(self._door.held.give_back, entered)
            Inference(self._border, record, call, checked, self._encoder(checked.model), leave_door).begin(rows, deadline)
        except Exception as error:  # the border knows what each is worth to the caller
            self._door.held.give_back(entered)
            call.refuse(*self._border.refusal(record, error))

    def _look(self) -> None:
        """Hold no model that is no longer served, nor a version that is no longer the one meant."""
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._encoder.cache_clear()
            self._known_requests.forget()

    def _understand(self, message: bytes, record: CallRecord) -> tuple[Checked, Images]:
        checked, rows = self._known_requests.recognise(message, self._registry.generation) or self._read(message, record)
        record.model, record.version = checked.model.name, checked.model.version
        self._registry.check_up(checked.model)
        return checked, rows

    def _read(self, message: bytes, record: CallRecord) -> tuple[Checked, Images]:
        generation = self._registry.generation  # before the model is looked up
        found = read_message(message)
        parameters = read_parameters(found.request)
        model = self._registry.find(found.request.model_name, found.request.model_version, parameters.precision)
        record.model, record.version = model.name, model.version
        model.info.check_demand(parameters.demand)
        rows = decode_rows(found, model.manifest, model.batcher.limits.max_request)
        top_k = check_outputs(found.request, model.manifest, len(rows))
        checked = Checked(model, parameters, found.request.id, top_k, rows.shape, generation)
        self._known_requests.remember(found, checked)
        return checked, rows


class Inference:
    """One call between its check and its answer: a `Waiter` that answers its own call."""

    __slots__ = ("_batcher", "_border", "_call", "_checked", "_encoder", "_leave_door", "_record", "_ticket", "defer", "post")

    def __init__(
        self,
        border: Border,
        record: CallRecord,
        call: DirectCall,
        checked: Checked,
        encoder: AnswerEncoder | GroupEncoder,
        leave_door: Callable[[], None],
    ) -> None:
        self._border, self._record, self._call = border, record, call
        self._checked, self._encoder = checked, encoder
        self._batcher: Batcher = checked.model.batcher
        self._ticket: Ticket | None = None
        self._leave_door = leave_door
        self.post, self.defer = call.post, call.defer

    def begin(self, rows: Images, deadline: float | None) -> None:
        """Queue UINT8 [n, h, w, 3], and leave the door at the end; raises what `Batcher.submit` raises, and then does not leave it."""
        parameters = self._checked.parameters
        self._ticket = ticket = self._batcher.enqueue(rows, deadline, parameters.priority, self, parameters.demand)
        self._call.on_left = self._leave
        if ticket.over:  # another thread was faster
            self._call.on_left = None

    def settle(self, outcome: Answer | ServingError) -> None:
        """See `Waiter.settle`."""
        self._leave_door()
        if isinstance(outcome, ServingError):
            self._refuse(outcome)  # not raised: its traceback would hold the call
            return
        try:
            message = self._encoder.encode(self._checked.identity, outcome, self._checked.top_k)
            self._record.computed(outcome, len(outcome.logits), self._checked.model.precision, self._checked.identity)
            self._border.answered(self._record)
            self._call.answer(message)
        except Exception as error:  # the other answers of this batch must not miss theirs
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._call.refuse(*self._border.refusal(self._record, error))

    def _leave(self) -> None:
        if self._ticket is not None and self._batcher.leave(self._ticket):
            self._leave_door()
            self._border.left(self._record)
