#!/usr/bin/env sh
# Generate the committed protobuf code. Usage: proto/generate.sh [OUTPUT_FOLDER]
# The messages are built at import from messages.binpb, in a descriptor pool of their own (resnet_proto/pool.py);
# protoc's own *_pb2.py would put them in the pool that every other client of the protocol uses.
set -eu
cd "$(dirname "$0")"
out=${1:-.}
python="${PYTHON:-../.venv/bin/python}"
protoc() { PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -I . "$@"; }
mkdir -p "$out/resnet_proto"
protoc --mypy_out="$out" --descriptor_set_out="$out/resnet_proto/messages.binpb" \
    resnet_proto/manifest.proto resnet_proto/classifier.proto resnet_proto/open_inference.proto
protoc --grpc_python_out="$out" --mypy_grpc_out="$out" resnet_proto/classifier.proto resnet_proto/open_inference.proto
