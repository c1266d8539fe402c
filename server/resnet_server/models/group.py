"""A group: certified versions of one input and label set that answer under one name, each batch by one of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_proto.manifest import FORMAT
from resnet_proto.manifest_pb2 import Artifact, Input, Manifest

from resnet_server.batching.chooser import Demand
from resnet_server.errors import ServingError
from resnet_server.models import accuracy
from resnet_server.models.repository import Candidate, Published
from resnet_server.models.served_model import ModelInfo
from resnet_server.planning.group_plan import label
from resnet_server.routing.member import Member

VERSION = "1"
MIXED = "mixed"
FOLDED = ("mean", "std", "trained_colour_order")
"""Of `Input`: inside the graph, so that members may differ in it."""
MOST_MEMBERS = 64


@dataclass(frozen=True)
class Entry:
    """A file that may be a member; `accuracy` 0..1, measured as that of all others is."""

    published: Published
    candidate: Candidate
    accuracy: float

    @property
    def label(self) -> str:
        """How plans and logs name it."""
        return label(self.published.name, self.candidate.artifact.precision)


@dataclass(frozen=True)
class GroupInfo(ModelInfo):
    """What is known of a group: `members` from the cheapest to the most accurate, each with its costs in the plan of the group.

    Name, version and input are in `manifest`, as for any other model; `accuracies` 0..1, of the members; `target`: seconds that decide
    where a request has no deadline. `left_out`: what of its models is no member, and why.
    """

    members: tuple[ModelInfo, ...] = ()
    accuracies: tuple[float, ...] = ()
    target: float | None = None
    left_out: tuple[str, ...] = ()

    @property
    def artifact(self) -> Artifact:
        """That of the most accurate member."""
        return self.members[-1].artifact

    @property
    def certificate_id(self) -> str:
        """Of every member, separated by commas."""
        return ",".join(member.certificate_id for member in self.members)

    def routed(self) -> tuple[Member, ...]:
        """The members as the policy sees them."""
        return tuple(map(routed, self.members, self.accuracies))

    def properties(self) -> dict[str, str]:
        """See `ModelInfo.properties`."""
        described = (
            f"{member} version {info.manifest.version}: accuracy {member.accuracy:.4f}, {1e3 * member.seconds(1):.2f} ms for one image"
            for member, info in zip(self.routed(), self.members, strict=True)
        )
        target = {} if self.target is None else {"target": f"{1e3 * self.target:g} ms"}
        left_out = {"left_out": "; ".join(self.left_out)} if self.left_out else {}
        return {**super().properties(), "members": "; ".join(described), **left_out, **target}

    def check_demand(self, demand: Demand) -> None:
        """The batcher's chooser judges that."""


def routed(info: ModelInfo, accuracy: float) -> Member:
    """One member as the policy sees it."""
    name, _, precision = info.key
    return Member(name, precision, info.manifest.network.depth, accuracy, info.plan.fixed, info.plan.per_row)


def entries(name: str, versions: Sequence[Published], certified: "Sequence[tuple[Published, Candidate]]") -> list[Entry]:
    """What of `versions` may be a member: every certified file. Raises ServingError saying what differs, or that nothing is left."""
    if not certified:
        reasons = "; ".join(f"{version.name}: {version.refusal or 'it has no certified file'}" for version in versions)
        reasons = reasons or "none of its models is in service"
        raise ServingError(f"group: {name} has no member: {reasons}")
    if len(certified) > MOST_MEMBERS:
        raise ServingError(f"group: {name} has {len(certified)} certified files; expected at most {MOST_MEMBERS}")
    first = certified[0][0]
    for published, _ in certified:
        if found := difference(first, published):
            raise ServingError(f"group: {name}: {published.name} differs from {first.name} in {found}")
    return [Entry(*pair, found) for pair, found in zip(certified, accuracies_of(name, certified), strict=True)]


def difference(first: Published, other: Published) -> str:
    """What callers would notice where one answers for the other; empty: nothing."""
    for field in Input.DESCRIPTOR.fields:
        one, two = getattr(first.manifest.input, field.name), getattr(other.manifest.input, field.name)
        if field.name not in FOLDED and one != two:
            return f"input.{field.name}: {two!r}, not {one!r}"
    for name in ("name", "classes", "activation"):
        one, two = getattr(first.manifest.output, name), getattr(other.manifest.output, name)
        if one != two:
            return f"output.{name}: {two!r}, not {one!r}"
    if first.labels != other.labels:
        at = next(index for index, pair in enumerate(zip(first.labels, other.labels, strict=True)) if pair[0] != pair[1])
        return f"labels.txt: class {at} is {other.labels[at]!r}, not {first.labels[at]!r}"
    return ""


def accuracies_of(name: str, files: "Sequence[tuple[Published, Candidate]]") -> list[float]:
    """All by one measure: what training states on the same images, or else what the certificates found on the same images.

    Raises ServingError where they cannot be compared so.
    """
    trained = [accuracy.stated(published.manifest, candidate.artifact) for published, candidate in files]
    if all(found is not None for found in trained) and len({published.manifest.source.accuracy_images for published, _ in files}) == 1:
        return [found for found in trained if found is not None]
    measured = []
    for published, candidate in files:
        found, which = accuracy.certified(candidate.artifact), label(published.name, candidate.artifact.precision)
        if found is None:
            raise ServingError(f"group: {name}: the certificate of {which} has no accuracy, since its images have no labels")
        if candidate.artifact.certificate.images_sha256 != (first := files[0][1].artifact.certificate).images_sha256:
            images = (candidate.artifact.certificate.images_source, first.images_source)
            text = f"its accuracy is of {images[0]}, that of {files[0][0].name} of {images[1]}; expected the same images"
            raise ServingError(f"group: {name}: {which} cannot be compared: {text}")
        measured.append(found)
    return measured


def manifest_of(name: str, precision: str, best: ModelInfo) -> Manifest:
    """Of a group: the input and output that all have, and what is known of its most accurate member."""
    manifest = Manifest(format=FORMAT, name=name, version=VERSION, artifacts=[best.artifact])
    for field in ("network", "input", "output", "source"):
        getattr(manifest, field).CopyFrom(getattr(best.manifest, field))
    manifest.artifacts[0].precision = precision
    return manifest


def precision_of(members: Sequence[str]) -> str:
    """The precision that all have, or `mixed`."""
    return members[0] if len(set(members)) == 1 else MIXED
