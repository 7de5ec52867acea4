package front;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

/** How a manager is: what it counted, and when Kafka last answered it. */
final class Health {
    static final long SILENCE_MS = 10_000;

    final AtomicLong sent = new AtomicLong();
    final AtomicLong refused = new AtomicLong();
    final AtomicLong decisions = new AtomicLong();
    final AtomicLong answered = new AtomicLong();
    final AtomicReference<String> problem = new AtomicReference<>("");

    private final String cluster;

    Health(String cluster) {
        this.cluster = cluster;
    }

    boolean isWell() {
        return System.currentTimeMillis() - answered.get() < SILENCE_MS && problem.get().isEmpty();
    }

    Map<String, Object> told() {
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("cluster", cluster);
        told.put("well", isWell());
        told.put("sent", sent.get());
        told.put("refused", refused.get());
        told.put("decisions", decisions.get());
        told.put("kafka_answered_ms_ago", System.currentTimeMillis() - answered.get());
        told.put("problem", problem.get());
        return told;
    }

    /** Answers GET /health: 200 where it is well, 503 where it is not. */
    void serve(int port) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
        ObjectMapper json = new ObjectMapper();
        server.createContext("/health", exchange -> {
            byte[] body = json.writeValueAsBytes(told());
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(isWell() ? 200 : 503, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
