"""What is known of a model that is ready."""

from dataclasses import dataclass

from resnet_proto.certificate import SampleCheck
from resnet_proto.manifest_pb2 import Artifact, Manifest

from resnet_server.planning.plan import Plan


@dataclass(frozen=True)
class Replay:
    """A certificate replayed here: what was found, and how long it took."""

    check: SampleCheck
    seconds: float


@dataclass(frozen=True)
class Facts:
    """All that callers and front ends may know of a model; it crosses the border to processes of ours."""

    manifest: Manifest
    labels: tuple[str, ...]
    precision: str
    provider: str
    certified: bool
    replay: Replay | None
    plan: Plan

    @property
    def key(self) -> tuple[str, str, str]:
        """Name, version, precision: the labels of its metrics."""
        return self.manifest.name, self.manifest.version, self.precision

    @property
    def artifact(self) -> Artifact:
        """The file that is served."""
        return next(artifact for artifact in self.manifest.artifacts if artifact.precision == self.precision)

    @property
    def certificate_id(self) -> str:
        """Of the certificate that holds; empty without one."""
        return self.artifact.certificate.id if self.certified else ""

    def properties(self) -> dict[str, str]:
        """What callers are told of how it computes."""
        facts = {"precision": self.precision, "provider": self.provider, "certified": str(self.certified).lower()}
        facts["certificate"] = self.certificate_id or "UNCERTIFIED"
        if self.replay is not None:
            check = self.replay.check
            facts["replay_top1_agreement"] = f"{check.agreement:.6f}"
            facts["replay_max_abs_error"] = f"{check.max_abs_error:.6g}"
            facts["replay_images"] = str(check.images)
            facts["replay_seconds"] = f"{self.replay.seconds:.3f}"
        plan = self.plan
        facts["plan"] = f"{plan.engines} engines x {plan.threads} threads, batches of up to {plan.batch}"
        return facts
