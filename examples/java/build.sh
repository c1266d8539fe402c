#!/usr/bin/env sh
# Build without Maven: build.sh [OUTPUT_FOLDER] makes classify.jar in it (default: target).
# It needs a JDK and packages of Debian or Ubuntu: apt-get install $(cat debian.txt)
set -eu
cd "$(dirname "$0")"
out=${1:-target}
jars=
for name in grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub protobuf guava gson perfmark-api \
    geronimo-annotation-1.3-spec netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-common netty-handler netty-handler-proxy \
    netty-resolver netty-transport; do
    jars="$jars /usr/share/java/$name.jar"
done
rm -rf "$out/stubs" "$out/classes"
mkdir -p "$out/stubs" "$out/classes"
protoc -I ../../proto --java_out="$out/stubs" --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" --grpc-java_out="$out/stubs" \
    resnet_proto/manifest.proto resnet_proto/classifier.proto
find "$out/stubs" src -name '*.java' >"$out/sources"
javac -nowarn -d "$out/classes" -cp "$(echo $jars | tr ' ' ':')" @"$out/sources"
{
    echo "Main-Class: example.Classify"
    echo "Class-Path: "
    printf '  %s\n' $jars # a line of a manifest is short; one that begins with a blank goes on
} >"$out/manifest"
jar --create --file "$out/classify.jar" --manifest "$out/manifest" -C "$out/classes" .
