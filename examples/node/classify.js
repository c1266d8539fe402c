// Classify pictures from Node:  node classify.js ADDRESS MODEL FILE...
//
// The stubs are made from the .proto files when it starts. Each call has a deadline; what nobody computed is sent again.

import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTOS = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "proto");
const DEADLINE_MS = 2000;
const RETRY = {
  methodConfig: [
    {
      name: [{}],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.05s",
        maxBackoff: "1s",
        backoffMultiplier: 3,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

const definition = loader.loadSync("resnet_proto/classifier.proto", { includeDirs: [PROTOS], keepCase: true, defaults: true });
const { Classifier } = grpc.loadPackageDefinition(definition).resnet.v1;

const [address, model, ...files] = process.argv.slice(2);
if (!files.length) {
  console.error("usage: node classify.js ADDRESS MODEL FILE...");
  process.exit(2);
}

const client = new Classifier(address, grpc.credentials.createInsecure(), { "grpc.service_config": JSON.stringify(RETRY) });

function classify(request) {
  const deadline = new Date(Date.now() + DEADLINE_MS);
  return new Promise((resolve, reject) => {
    client.Classify(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

try {
  const images = await Promise.all(files.map((file) => readFile(file)));
  const answer = await classify({ model_name: model, images, top_k: 1 });
  answer.results.forEach((result, index) => {
    const [best] = result.labels;
    console.log(`${basename(files[index])}: ${best.label} ${(100 * best.probability).toFixed(1)}%`);
  });
} catch (error) {
  console.error(error.details ?? String(error));
  process.exitCode = 1;
} finally {
  client.close();
}
