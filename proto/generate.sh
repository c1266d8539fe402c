#!/usr/bin/env sh
# Generate the committed protobuf code. Usage: proto/generate.sh [OUTPUT_FOLDER]
set -eu
cd "$(dirname "$0")"
out=${1:-.}
python="${PYTHON:-../.venv/bin/python}"
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -I . --python_out="$out" --mypy_out="$out" \
    resnet_proto/manifest.proto resnet_proto/classifier.proto resnet_proto/open_inference.proto
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -I . --grpc_python_out="$out" --mypy_grpc_out="$out" \
    resnet_proto/classifier.proto resnet_proto/open_inference.proto
