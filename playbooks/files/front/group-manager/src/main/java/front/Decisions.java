package front;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;

/** The newest decision of each group, where the page reads it. */
final class Decisions {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Path file;
    private final Map<String, String> newest = new TreeMap<>();
    private final Map<String, Double> until = new HashMap<>();
    private boolean written;

    Decisions(Path folder) {
        this.file = folder.resolve("decisions.json");
    }

    /**
     * Takes a record {@code {"group": …, "decision": …, "until": s since 1970}}; one that is older than what its group
     * has, of a partition that was read later, is left. Returns what is wrong with it, null where nothing is.
     */
    String take(String record) {
        try {
            JsonNode said = JSON.readTree(record);
            if (said == null || !said.hasNonNull("group") || !said.hasNonNull("decision")) {
                return "a decision without group and decision: " + record;
            }
            String group = said.get("group").asText();
            String decision = said.get("decision").asText();
            double made = said.path("until").asDouble();
            if (made >= until.getOrDefault(group, 0.0)) {
                until.put(group, made);
                if (!decision.equals(newest.put(group, decision))) {
                    written = false;
                }
            }
            return null;
        } catch (JsonProcessingException error) {
            return "a decision that is no JSON: " + record;
        }
    }

    int groups() {
        return newest.size();
    }

    /** Writes what has changed, whole or not at all. */
    void write() throws IOException {
        if (written || newest.isEmpty()) {
            return;
        }
        Path temporary = file.resolveSibling("." + file.getFileName() + "." + ProcessHandle.current().pid());
        Files.write(temporary, JSON.writeValueAsBytes(newest));
        Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        written = true;
    }
}
