#!/usr/bin/env sh
# Fail if the committed protobuf code is not what the .proto files generate, or if a generated file has no .proto file any more.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
drifted() { echo "$1: run 'make proto', and remove what no .proto file generates" >&2; exit 1; }

PYTHON="${PYTHON:-$PWD/.venv/bin/python}" proto/generate.sh "$fresh" >"$fresh/log" 2>&1 || { cat "$fresh/log" >&2; exit 1; }
for file in "$fresh"/resnet_proto/*; do
    name=$(basename "$file")
    case $name in
    *.binpb) cmp "proto/resnet_proto/$name" "$file" || drifted "$name has drifted" ;;
    *) diff -u "proto/resnet_proto/$name" "$file" || drifted "$name has drifted" ;;
    esac
done
for file in proto/resnet_proto/*_pb2.pyi proto/resnet_proto/*_pb2_grpc.py* proto/resnet_proto/*.binpb; do
    test -e "$fresh/resnet_proto/$(basename "$file")" || drifted "$(basename "$file") is stale"
done
