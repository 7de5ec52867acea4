package front;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.InetAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Stands between the page of a front and Kafka: sends what the page has queued, and keeps each group's newest decision
 * where the page reads it.
 *
 * <pre>java -cp … front.GroupManager &lt;cluster&gt; &lt;kafka servers&gt; &lt;config file&gt;</pre>
 *
 * <p>An update is sent at least once: it leaves the disk when Kafka has it on all replicas. While Kafka is away both
 * wait, the page goes on with the decisions it has, and /health says so.
 */
public final class GroupManager {
    private static final long ALIVE_MS = 1_000;

    private final Settings settings;
    private final Health health;

    private GroupManager(Settings settings) {
        this.settings = settings;
        this.health = new Health(settings.cluster());
    }

    public static void main(String[] words) throws Exception {
        if (words.length != 3) {
            System.err.println("usage: GroupManager <cluster> <kafka servers> <config file>");
            System.exit(2);
        }
        try {
            new GroupManager(Settings.read(words[0], words[1], Path.of(words[2]))).run();
        } catch (IOException | IllegalArgumentException | KafkaException error) {
            System.err.println("group manager: " + error.getMessage());
            System.exit(1);
        }
    }

    private void run() throws IOException, InterruptedException {
        health.serve(settings.healthPort());
        Thread reading = new Thread(this::readDecisions, "decisions");
        reading.setDaemon(true);
        reading.start();
        sendUpdates();
    }

    private void sendUpdates() throws InterruptedException {
        Queue queue = new Queue(settings.data(), settings.cluster());
        Map<String, Object> options = Map.of(
                ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, settings.servers(),
                ProducerConfig.ACKS_CONFIG, "all",
                ProducerConfig.LINGER_MS_CONFIG, 5,
                ProducerConfig.DELIVERY_TIMEOUT_MS_CONFIG, 30_000,
                ProducerConfig.REQUEST_TIMEOUT_MS_CONFIG, 10_000,
                ProducerConfig.MAX_BLOCK_MS_CONFIG, 10_000L);
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(options, new StringSerializer(), new StringSerializer())) {
            long alive = 0;
            while (!Thread.currentThread().isInterrupted()) {
                long begun = System.currentTimeMillis();
                try {
                    List<String> lines = queue.take();
                    if (!lines.isEmpty()) {
                        send(producer, lines);
                        queue.sent();
                    }
                    if (begun - alive >= ALIVE_MS) {
                        producer.send(new ProducerRecord<>(settings.aliveTopic(), settings.cluster(), alive())).get();
                        alive = begun;
                    }
                    health.answered.set(System.currentTimeMillis());
                    tell("");
                } catch (IOException | ExecutionException | KafkaException error) {
                    Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
                    tell("what is queued waits: " + cause.getMessage());
                }
                Thread.sleep(Math.max(1, begun + settings.intervalMs() - System.currentTimeMillis()));
            }
        }
    }

    private void send(KafkaProducer<String, String> producer, List<String> lines)
            throws ExecutionException, InterruptedException {
        List<Future<?>> under = new ArrayList<>(lines.size());
        long refused = 0;
        for (String line : lines) {
            String group = Updates.group(line);
            if (group == null) {
                refused++;
                System.err.println("no update of the page's: " + line);
            } else {
                under.add(producer.send(new ProducerRecord<>(settings.uploadTopic(), group, line)));
            }
        }
        for (Future<?> one : under) {
            one.get();
        }
        health.sent.addAndGet(under.size());
        health.refused.addAndGet(refused);
    }

    /** Says what is wrong, once for as long as it is, and that it is over. */
    private void tell(String problem) {
        String before = health.problem.getAndSet(problem);
        if (problem.isEmpty() != before.isEmpty()) {
            System.err.println(problem.isEmpty() ? "Kafka answers again" : problem);
        }
    }

    private String alive() throws IOException {
        Map<String, Object> told = health.told();
        told.put("host", InetAddress.getLocalHost().getHostName());
        told.put("time", System.currentTimeMillis() / 1000.0);
        return new ObjectMapper().writeValueAsString(told);
    }

    /** Reads all of the topic, from its begin: the newest decisions hold, also those made while this was away. */
    private void readDecisions() {
        Decisions decisions = new Decisions(settings.data());
        Map<String, Object> options = Map.of(
                ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, settings.servers(),
                ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false,
                ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(options, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = partitions(consumer);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    String wrong = decisions.take(record.value());
                    if (wrong != null) {
                        System.err.println(wrong);
                    }
                    health.decisions.incrementAndGet();
                }
                decisions.write();
            }
        } catch (IOException | KafkaException error) {
            System.err.println("group manager: decisions are read no more: " + error.getMessage());
            System.exit(1);
        }
    }

    private List<TopicPartition> partitions(KafkaConsumer<String, String> consumer) {
        List<PartitionInfo> found = consumer.partitionsFor(settings.decisionTopic());
        if (found == null || found.isEmpty()) {
            throw new KafkaException("there is no topic " + settings.decisionTopic() + ": make it first");
        }
        return found.stream()
                .map(one -> new TopicPartition(one.topic(), one.partition()))
                .toList();
    }
}
