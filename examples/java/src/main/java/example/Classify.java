package example;

import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import resnet.v1.ClassifierGrpc;
import resnet.v1.ClassifierOuterClass.Classification;
import resnet.v1.ClassifierOuterClass.ClassifyRequest;
import resnet.v1.ClassifierOuterClass.ScoredLabel;

/** Classifies pictures: {@code Classify ADDRESS MODEL FILE...}. Each call has a deadline; what nobody computed is sent again. */
public final class Classify {
    private static final long DEADLINE_MS = 2000;
    private static final Map<String, ?> RETRY = Map.of(
            "methodConfig", List.of(Map.of(
                    "name", List.of(Map.of()),
                    "retryPolicy", Map.of(
                            "maxAttempts", 4.0,
                            "initialBackoff", "0.05s",
                            "maxBackoff", "1s",
                            "backoffMultiplier", 3.0,
                            "retryableStatusCodes", List.of("UNAVAILABLE")))));

    private Classify() {}

    public static void main(String[] arguments) {
        if (arguments.length < 3) {
            System.err.println("usage: Classify ADDRESS MODEL FILE...");
            System.exit(2);
        }
        List<Path> files = Arrays.stream(arguments).skip(2).map(Path::of).toList();
        ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0])
                .usePlaintext()
                .defaultLoadBalancingPolicy("round_robin")
                .defaultServiceConfig(RETRY)
                .enableRetry()
                .build();
        try {
            print(files, classify(channel, arguments[1], files));
        } catch (StatusRuntimeException error) {
            fail(error.getStatus().getCode() + ": " + error.getStatus().getDescription());
        } catch (IOException error) {
            fail(error.toString());
        } finally {
            channel.shutdownNow();
        }
    }

    /** One result for each file, in their order. */
    private static List<Classification> classify(ManagedChannel channel, String model, List<Path> files) throws IOException {
        ClassifyRequest.Builder request = ClassifyRequest.newBuilder().setModelName(model).setTopK(1);
        for (Path file : files) {
            request.addImages(ByteString.copyFrom(Files.readAllBytes(file)));
        }
        return ClassifierGrpc.newBlockingStub(channel)
                .withDeadlineAfter(DEADLINE_MS, TimeUnit.MILLISECONDS)
                .classify(request.build())
                .getResultsList();
    }

    private static void print(List<Path> files, List<Classification> results) {
        for (int index = 0; index < results.size(); index++) {
            ScoredLabel best = results.get(index).getLabels(0);
            System.out.printf("%s: %s %.1f%%%n", files.get(index).getFileName(), best.getLabel(), 100 * best.getProbability());
        }
    }

    private static void fail(String why) {
        System.err.println(why);
        System.exit(1);
    }
}
