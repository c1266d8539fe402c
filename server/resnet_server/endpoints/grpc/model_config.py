"""ModelConfig: how a model is served, in the words of Triton's configuration.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_configuration.md
"""

from resnet_proto import open_inference_pb2 as pb
from resnet_proto.manifest import LABELS_FILE

from resnet_server.batching.row_queue import LOW, NORMAL
from resnet_server.endpoints.error_status import Border, Context
from resnet_server.engines.api import is_on_host
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel
from resnet_server.models.versions import parse_versions

MICROSECONDS = 1e6
BACKEND = "onnxruntime"


class ModelConfigService:
    """Answers from the manifest, the plan and the batcher's limits; `versions`: the server's policy."""

    names = ("model_configuration",)

    def __init__(self, registry: Registry, border: Border, versions: str) -> None:
        self._registry = registry
        self._border = border
        self._versions = versions

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """Of the precision that answers where none is asked for."""
        async with self._border.call("ModelConfig", context) as call:
            model = self._registry.find(request.name, request.version)
            call.model, call.version = model.name, model.version
            return pb.ModelConfigResponse(config=self._config(model))

    def _config(self, model: ServedModel) -> pb.ModelConfig:
        info, manifest = model.info, model.manifest
        spec, output = manifest.input, manifest.output
        config = pb.ModelConfig(
            name=model.name,
            platform=info.platform,
            backend=BACKEND,
            version_policy=policy(info.own.versions or self._versions),
            max_batch_size=model.batcher.limits.max_request,
            default_model_filename=info.artifact.file,
            dynamic_batching=batching(model),
        )
        shape = (spec.height, spec.width, spec.channels or 3)
        config.input.add(name=spec.name, data_type=pb.TYPE_UINT8, format=pb.ModelInput.FORMAT_NHWC, dims=shape)
        config.output.add(name=output.name, data_type=pb.TYPE_FP32, dims=(output.classes,), label_filename=LABELS_FILE)
        kind = pb.ModelInstanceGroup.KIND_CPU if is_on_host(info.provider) else pb.ModelInstanceGroup.KIND_GPU
        config.instance_group.add(name=f"{model.name}_{info.provider}", count=info.plan.engines, kind=kind)
        for key, value in model.properties.items():
            config.parameters[key].string_value = value
        return config


def policy(versions: str) -> pb.ModelVersionPolicy:
    """The policy that chose what is served."""
    chosen = parse_versions(versions)
    if chosen.latest:
        return pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=chosen.latest))
    if chosen.named:
        return pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=map(int, chosen.named)))
    return pb.ModelVersionPolicy(all=pb.ModelVersionPolicy.All())


def batching(model: ServedModel) -> pb.ModelDynamicBatching:
    """How batches form; a delay of 0 is what the cost model chooses between."""
    limits = model.batcher.limits
    return pb.ModelDynamicBatching(
        preferred_batch_size=(limits.max_batch,),
        max_queue_delay_microseconds=round((limits.max_delay or 0) * MICROSECONDS),
        priority_levels=LOW,
        default_priority_level=NORMAL,
        default_queue_policy=pb.ModelQueuePolicy(
            timeout_action=pb.ModelQueuePolicy.REJECT, allow_timeout_override=True, max_queue_size=limits.max_queue
        ),
    )
