"""ModelInfer, once for every transport: a message is checked, queued and answered where its call lives, without an event loop between."""

from collections.abc import Callable
from functools import lru_cache, partial

from resnet_server.batching.batcher import Batcher
from resnet_server.batching.ticket import Ticket
from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.answer_cache import AnswerCache, Look
from resnet_server.endpoints.error_status import Border, CallRecord
from resnet_server.endpoints.grpc.door import Door
from resnet_server.endpoints.grpc.known_requests import Checked, KnownRequests
from resnet_server.endpoints.infer_message import read_message
from resnet_server.endpoints.parameters import read_parameters
from resnet_server.endpoints.shared_memory import Place, SharedRegions
from resnet_server.endpoints.tensors import (
    NO_REGIONS,
    AnswerEncoder,
    GroupEncoder,
    check_outputs,
    decode_rows,
    encoder_of,
    output_place,
    placed,
    read_nothing,
)
from resnet_server.engines.api import Images
from resnet_server.errors import InvalidRequestError, ServingError
from resnet_server.transport.api import DirectCall


class ModelInfer:
    """The method; see `tensors` for what is checked of a request."""

    def __init__(self, border: Border, door: Door, regions: SharedRegions | None = None) -> None:
        self._registry = door.registry
        self._regions = regions
        self._border = border
        self._door = door
        self._encoder = lru_cache(encoder_of)
        self._known_requests = KnownRequests()
        self._generation = self._registry.generation
        self._registry.watch(self._look)

    def __call__(self, message: bytes, call: DirectCall) -> None:
        """Begin one inference; whatever goes wrong is answered."""
        record, held = self._border.record("ModelInfer", call.arrived, call), Held(self._door)
        try:
            held.take(len(message))
            checked, rows = self._understand(message, record, held)
            self._door.take_rows(call, len(rows))
            deadline = self._border.deadline(call, checked.parameters.timeout_us)
            encoder = self._encoder(checked.model)
            inference = Inference(self._border, record, call, checked, encoder, held.give_back, self._regions)
            if self._door.cache is not None and inference.is_answered(self._door.cache, rows):
                return
            inference.begin(rows, deadline)
        except Exception as error:  # the border knows what each is worth to the caller
            held.give_back()
            call.refuse(*self._border.refusal(record, error))

    def further(self, message: bytes, call: DirectCall) -> None:
        """A request of a stream but for its first, which the stream itself was counted for."""
        try:
            self._door.access.take_call(call.invocation_metadata())
        except ServingError as error:
            call.refuse(*self._border.refusal(self._border.record("ModelInfer", call.arrived, call), error))
        else:
            self(message, call)

    def _look(self) -> None:
        """Hold no model that is no longer served, nor a version that is no longer the one meant."""
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._encoder.cache_clear()
            self._known_requests.forget()

    def _understand(self, message: bytes, record: CallRecord, held: "Held") -> tuple[Checked, Images]:
        checked, rows = self._known_requests.recognise(message, self._registry.generation) or self._read(message, record, held)
        record.model, record.version = checked.model.name, checked.model.version
        self._registry.check_up(checked.model)
        return checked, rows

    def _read(self, message: bytes, record: CallRecord, held: "Held") -> tuple[Checked, Images]:
        generation = self._registry.generation  # before the model is looked up
        found = read_message(message)
        parameters = read_parameters(found.request)
        model = self._registry.find(found.request.model_name, found.request.model_version, parameters.precision)
        record.model, record.version = model.name, model.version
        model.info.check_demand(parameters.demand)
        rows = decode_rows(found, model.manifest, model.batcher.limits.max_request, partial(self._read_place, held))
        top_k = check_outputs(found.request, model.manifest, len(rows))
        place = output_place(found.request, model.manifest, len(rows))
        if place is not None:
            self._check_place(place)
        checked = Checked(model, parameters, found.request.id, top_k, rows.shape, generation, place)
        if not self._registry.is_weighed(found.request.model_name, found.request.model_version):  # else the next one may be another's
            self._known_requests.remember(found, checked)
        return checked, rows

    def _read_place(self, held: "Held", place: Place) -> Images:
        if self._regions is None:
            return read_nothing(place)
        held.take(place.size)
        return self._regions.read(place)

    def _check_place(self, place: Place) -> None:
        if self._regions is None:
            raise InvalidRequestError(f"{place.field}: {NO_REGIONS}")
        self._regions.check(place)


class Held:
    """What one call makes the server hold, given back once."""

    __slots__ = ("_bytes", "_door")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._bytes = 0

    def take(self, count: int) -> None:
        """See `Door.enter`."""
        self._door.enter(count)
        self._bytes += count

    def give_back(self) -> None:
        """At the end of the call."""
        count, self._bytes = self._bytes, 0
        self._door.held.give_back(count)


class Inference:
    """One call between its check and its answer: a `Waiter` that answers its own call."""

    __slots__ = (
        "_batcher",
        "_border",
        "_call",
        "_checked",
        "_encoder",
        "_leave_door",
        "_look",
        "_record",
        "_regions",
        "_rows",
        "_ticket",
        "defer",
        "post",
    )

    def __init__(
        self,
        border: Border,
        record: CallRecord,
        call: DirectCall,
        checked: Checked,
        encoder: AnswerEncoder | GroupEncoder,
        leave_door: Callable[[], None],
        regions: SharedRegions | None,
    ) -> None:
        self._border, self._record, self._call = border, record, call
        self._checked, self._encoder = checked, encoder
        self._batcher: Batcher = checked.model.batcher
        self._ticket: Ticket | None = None
        self._look: Look | None = None
        self._leave_door = leave_door
        self._rows: Images | None = None
        self._regions = regions
        self.post, self.defer = call.post, call.defer

    def is_answered(self, cache: AnswerCache, rows: Images) -> bool:
        """True if the answer to UINT8 [n, h, w, 3] was kept, and is sent; what is computed now is kept otherwise."""
        self._look = cache.look(self._checked.model, rows)
        if self._look is None or self._look.answer is None:
            return False
        answer, self._look = self._look.answer, None
        self.settle(answer)
        return True

    def begin(self, rows: Images, deadline: float | None) -> None:
        """Queue UINT8 [n, h, w, 3], and leave the door at the end; raises what `Batcher.submit` raises, and then does not leave it."""
        parameters = self._checked.parameters
        if self._checked.model.tap is not None:
            self._rows = rows
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
            if self._look is not None:
                self._look.keep(outcome)
            message = self._encoder.encode(self._checked.identity, outcome, self._checked.top_k)
            if self._checked.place is not None and self._regions is not None:
                message = placed(message, self._checked.place, self._regions.write)
            self._record.computed(outcome, len(outcome.logits), self._checked.model.precision, self._checked.identity)
            self._border.answered(self._record)
            self._call.answer(message)
            if self._rows is not None and (tap := self._checked.model.tap) is not None:
                tap.copy(self._rows, outcome.logits)
        except Exception as error:  # the other answers of this batch must not miss theirs
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._call.refuse(*self._border.refusal(self._record, error))

    def _leave(self) -> None:
        if self._ticket is not None and self._batcher.leave(self._ticket):
            self._leave_door()
            self._border.left(self._record)
