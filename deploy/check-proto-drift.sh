#!/usr/bin/env sh
# Fail if the committed protobuf code is not what the .proto files generate.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
PYTHON="$PWD/.venv/bin/python" proto/generate.sh "$fresh" 2>/dev/null
for file in "$fresh"/resnet_proto/*; do
    diff -u "proto/resnet_proto/$(basename "$file")" "$file" || { echo "generated code has drifted: run 'make proto'" >&2; exit 1; }
done
