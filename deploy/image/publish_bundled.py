"""The export job: publish the bundled networks that the repository does not hold yet, and exit with 0 once it holds all.

    publish_bundled.py REPOSITORY

`RESNET_NETWORKS` names some of them, separated by commas (default: all); `RESNET_PRECISIONS` what to publish (fp32,int8);
`RESNET_IMAGES` a folder of images to certify on, some of which the versions then hold (default: the bundled sample).
A network is there if some version of it was made from this very checkpoint and holds one of the precisions: a precision whose
certificate did not hold is not published, and trying again would not change that.
"""

import os
import subprocess
import sys
from pathlib import Path

import resnet_models
from resnet_proto.manifest import ManifestError, check_artifact, read_manifest, sha256_file

PRETRAINED = Path(resnet_models.__file__).parent / "pretrained"


def main() -> None:
    """Publish what is missing; exit with 1 and one line if something cannot be."""
    repository = Path(sys.argv[1])
    precisions = os.environ.get("RESNET_PRECISIONS") or "fp32,int8"
    for checkpoint in chosen(os.environ.get("RESNET_NETWORKS", "")):
        if version := published(repository / checkpoint.stem, sha256_file(checkpoint)):
            print(f"{checkpoint.stem}: version {version} is published already", flush=True)
            continue
        command = [sys.executable, "-m", "resnet_export", "publish", str(checkpoint), "--repository", str(repository)]
        if images := os.environ.get("RESNET_IMAGES"):
            command += ["--images", images, "--copy-images"]
        status = subprocess.run([*command, "--precision", precisions, "--no-profile"], check=False).returncode
        if status and not published(repository / checkpoint.stem, sha256_file(checkpoint)):
            sys.exit(f"{checkpoint.stem}: cannot be published; the reason stands above")


def chosen(names: str) -> list[Path]:
    """The checkpoints of the networks named, or all; exits with one line for a name that is not bundled."""
    bundled = {path.stem: path for path in sorted(PRETRAINED.glob("*.safetensors"))}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(bundled)
    if unknown := [name for name in wanted if name not in bundled]:
        sys.exit(f"RESNET_NETWORKS: {', '.join(unknown)}; expected some of {', '.join(bundled)}")
    return [bundled[name] for name in wanted]


def published(model: Path, sha256: str) -> str:
    """The highest version of a model folder that was made from this checkpoint and whose files hold; empty if there is none."""
    versions = [folder.name for folder in model.iterdir() if folder.name.isdecimal()] if model.is_dir() else []
    for version in sorted(versions, key=int, reverse=True):
        try:
            manifest = read_manifest(model / version)
            for artifact in manifest.artifacts:
                check_artifact(model / version, manifest, artifact, allow_uncertified=False)
        except ManifestError as error:
            print(f"{model.name}: version {version} does not hold: {error}", flush=True)
            continue
        if manifest.source.checkpoint_sha256 == sha256 and manifest.artifacts:
            return version
    return ""


if __name__ == "__main__":
    main()
