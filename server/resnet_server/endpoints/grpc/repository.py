"""RepositoryIndex, RepositoryModelLoad and RepositoryModelUnload: what is in the repository, and what of it serves.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from collections.abc import Mapping

from resnet_proto import open_inference_pb2 as pb

from resnet_server.endpoints.error_status import Border, Context
from resnet_server.errors import InvalidRequestError, ModelNotFoundError, NotEnabledError, shown
from resnet_server.models.registry import Registry
from resnet_server.models.stage import Control
from resnet_server.models.versions import VersionPolicy, parse_versions

OF_A_LOAD, OF_AN_UNLOAD = {"versions": "string_param"}, {"unload_dependents": "bool_param"}
"""The parameters that are known, by the kind they have. No model depends on another: `unload_dependents` asks for nothing."""


class RepositoryService:
    """Of this process; `control` None: nothing can be changed."""

    def __init__(self, registry: Registry, border: Border, control: Control | None) -> None:
        self._registry = registry
        self._border = border
        self._control = control
        self.names = ("model_repository",) if control is not None and control.is_enabled else ()

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """Every version that serves, changes or is refused, with its state; of one in service, why a newer form of it is not."""
        async with self._border.call("RepositoryIndex", context):
            check_repository(request.repository_name)
        response = pb.RepositoryIndexResponse()
        for (name, version), (state, reason) in self._states().items():
            if state == "READY" or not request.ready:
                response.models.add(name=name, version=version, state=state, reason=reason)
        return response

    async def RepositoryModelLoad(self, request: pb.RepositoryModelLoadRequest, context: Context) -> pb.RepositoryModelLoadResponse:
        """Take the model into service as it is now on disk; see `ModelControl.load`."""
        async with self._border.call("RepositoryModelLoad", context):
            control = self._enabled("RepositoryModelLoad")
            check_request(request, OF_A_LOAD)
            await control.load(request.model_name, read_versions(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: pb.RepositoryModelUnloadRequest, context: Context) -> pb.RepositoryModelUnloadResponse:
        """Take the model out of service; see `ModelControl.unload`."""
        async with self._border.call("RepositoryModelUnload", context):
            control = self._enabled("RepositoryModelUnload")
            check_request(request, OF_AN_UNLOAD)
            await control.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _enabled(self, method: str) -> Control:
        self._registry.check_open()
        if self._control is None or not self._control.is_enabled:
            raise NotEnabledError(f"{method}: callers may not change what is served; start the server with --model-control explicit")
        return self._control

    def _states(self) -> dict[tuple[str, str], tuple[str, str]]:
        """State and reason by name and version; what serves comes first."""
        states: dict[tuple[str, str], tuple[str, str]] = {(model.name, model.version): ("READY", "") for model in self._registry.ready}
        for key, change in self._registry.changing.items():
            states.setdefault(key, (change, ""))
        for refused in self._registry.refused:
            key = (refused.name, refused.version)
            if states.get(key) == ("READY", ""):
                states[key] = ("READY", f"as before; what is in the repository now is refused: {refused.reason}")
            states.setdefault(key, ("UNAVAILABLE", refused.reason))
        return states


def check_request(request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest, known: Mapping[str, str]) -> None:
    """Raises InvalidRequestError for parameters that are not known or of another kind, and ModelNotFoundError for another repository."""
    check_repository(request.repository_name)
    for name, parameter in request.parameters.items():
        if name not in known:
            hint = "; a model's settings are in its serving.toml" if name == "config" else ""
            raise InvalidRequestError(f"parameters.{shown(name)}: is unknown; expected none but {', '.join(known)}{hint}")
        kind = parameter.WhichOneof("parameter_choice")
        if kind != known[name]:
            raise InvalidRequestError(f"parameters.{name}: is {kind}; expected {known[name]}")


def check_repository(name: str) -> None:
    """There is one repository, without a name."""
    if name:
        raise ModelNotFoundError(f"repository_name: '{shown(name)}' is unknown; expected it empty")


def read_versions(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> VersionPolicy | None:
    """Those of a load that are asked for by name or policy; raises InvalidRequestError."""
    if "versions" not in parameters:
        return None
    try:
        return parse_versions(parameters["versions"].string_param)
    except ValueError as error:
        raise InvalidRequestError(f"parameters.versions: {error}") from None
