package front;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/** What a group manager is told: its command line and its file. */
record Settings(
        String cluster,
        String servers,
        Path data,
        int intervalMs,
        String uploadTopic,
        String decisionTopic,
        String aliveTopic,
        int healthPort) {

    /** Reads the file; a key that is missing or no number is an error that names it. */
    static Settings read(String cluster, String servers, Path file) throws IOException {
        Properties properties = new Properties();
        try (Reader reader = Files.newBufferedReader(file)) {
            properties.load(reader);
        }
        Reading from = new Reading(properties, file);
        return new Settings(
                cluster,
                servers,
                Path.of(from.text("data")),
                from.number("interval.ms"),
                from.text("upload.topic"),
                from.text("decision.topic"),
                from.text("alive.topic"),
                from.number("health.port"));
    }

    private record Reading(Properties properties, Path file) {
        String text(String key) {
            String value = properties.getProperty(key, "").strip();
            if (value.isEmpty()) {
                throw new IllegalArgumentException(file + ": " + key + " is missing");
            }
            return value;
        }

        int number(String key) {
            try {
                return Integer.parseInt(text(key));
            } catch (NumberFormatException error) {
                throw new IllegalArgumentException(file + ": " + key + " is no whole number: " + text(key));
            }
        }
    }
}
