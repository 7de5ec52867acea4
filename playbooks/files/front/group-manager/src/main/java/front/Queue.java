package front;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * The queue that the page appends to, a line of JSON an update.
 *
 * <p>A file is taken by giving it another name, under the page's own lock: then nobody writes to it any more. It stays
 * until all its lines are in Kafka, so that a manager that died sends them when it is back.
 */
final class Queue {
    private static final List<String> NAMES = List.of("queue.jsonl.1", "queue.jsonl"); // the older one first

    private final Path folder;
    private final Path taken;

    Queue(Path folder, String cluster) {
        this.folder = folder;
        this.taken = folder.resolve("queue." + cluster.replaceAll("[^A-Za-z0-9_-]", "_") + ".taken");
    }

    /** Returns the lines that are due, none where nothing is queued; they are due until {@link #sent}. */
    List<String> take() throws IOException, InterruptedException {
        for (String name : NAMES) {
            if (Files.exists(taken)) {
                break;
            }
            Path queue = folder.resolve(name);
            if (Files.exists(queue)) {
                rename(queue);
            }
        }
        if (!Files.exists(taken)) {
            return List.of();
        }
        return new String(Files.readAllBytes(taken), StandardCharsets.UTF_8).lines().toList();
    }

    /** Says that all lines taken are in Kafka. */
    void sent() throws IOException {
        Files.deleteIfExists(taken);
    }

    /** PHP locks by flock(2), Java by fcntl(2), and neither sees the other's lock: flock(1) speaks PHP's. */
    private void rename(Path queue) throws IOException, InterruptedException {
        Process moving = new ProcessBuilder(
                        "flock", "--wait", "5", folder.resolve("queue.lock").toString(),
                        "mv", "--no-target-directory", queue.toString(), taken.toString())
                .redirectErrorStream(true)
                .start();
        String said = new String(moving.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
        if (moving.waitFor() != 0) {
            throw new IOException(queue + " cannot be taken: " + (said.isEmpty() ? "it stays locked" : said));
        }
    }
}
