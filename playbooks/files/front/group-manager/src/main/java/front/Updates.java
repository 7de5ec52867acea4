package front;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

/** What the page queues: {@code {"time": s, "host": …, "payload": "group\tdecision\treward"}}. */
final class Updates {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Updates() {}

    /** Returns the group of a line, by which it is partitioned; null where the line is none of the page's. */
    static String group(String line) {
        try {
            JsonNode update = JSON.readTree(line);
            if (update == null || !update.hasNonNull("payload")) {
                return null;
            }
            return update.get("payload").asText().split("\t", 2)[0];
        } catch (JsonProcessingException error) {
            return null;
        }
    }
}
