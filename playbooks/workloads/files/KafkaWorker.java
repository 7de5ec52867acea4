import java.io.IOException;
import java.io.PrintWriter;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Producers and consumers of a load host, as OpenMessaging Benchmark's worker has them: all producers share one rate,
 * and a record is due when the rate says so.
 *
 * <p>kafka_worker.py runs it from this source, {@code java -cp 'libs/*' KafkaWorker.java PROPERTIES}, and says what the
 * properties are. Each second is a line of JSON in {@code worker.jsonl}: counts, and of each measure the counts of its
 * values (µs) in buckets of 0.1 %.
 */
public final class KafkaWorker {
    private static final int READY_S = 60; // consumers must have joined their groups by then
    private static final int CLOSE_S = 15; // what is under way at the end may take this long
    private static final int DRAIN_S = 10; // consumers read what is left for so long at most
    private static final int MOST_TOLD = 5; // of one kind of failure

    private final Properties given;
    private final LongAdder acknowledged = new LongAdder();
    private final LongAdder sent = new LongAdder(); // of them, since the last line
    private final LongAdder failed = new LongAdder();
    private final LongAdder sentBytes = new LongAdder();
    private final LongAdder received = new LongAdder();
    private final LongAdder receivedBytes = new LongAdder();
    private final LongAdder ahead = new LongAdder(); // records that came before they were sent: two hosts' clocks
    private final Counts latency = new Counts(); // due → acknowledged
    private final Counts service = new Counts(); // sent → acknowledged
    private final Counts delay = new Counts(); // due → sent
    private final Counts endToEnd = new Counts(); // the record's time → received
    private final Map<String, Integer> told = new ConcurrentHashMap<>();
    private volatile boolean drained;

    private KafkaWorker(Properties given) {
        this.given = given;
    }

    public static void main(String[] arguments) throws Exception {
        Properties given = new Properties();
        try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            given.load(reader);
        }
        System.exit(new KafkaWorker(given).run());
    }

    private int run() throws Exception {
        List<Reading> readings = new ArrayList<>();
        CountDownLatch joined = new CountDownLatch(words("consumers").size());
        for (String word : words("consumers")) {
            readings.add(new Reading(word.split(":")[0], word.split(":")[1], joined));
        }
        List<KafkaProducer<String, byte[]>> producers = new ArrayList<>();
        List<String> topics = words("producers");
        for (int i = 0; i < topics.size(); i++) {
            producers.add(producer(i));
            producers.get(i).partitionsFor(topics.get(i)); // no record shall wait for it
        }
        Pace pace = new Pace(number("rate"), number("duration.s"));
        List<Thread> senders = senders(producers, topics, pace);
        readings.forEach(Thread::start);
        if (!joined.await(READY_S, TimeUnit.SECONDS)) {
            System.err.printf("%d consumers were in no group after %d s%n", joined.getCount(), READY_S);
            return 3;
        }
        double left = Double.parseDouble(given.getProperty("start.at")) * 1e3 - System.currentTimeMillis();
        Thread.sleep(Math.max((long) left, 0));
        Telling telling = new Telling(Path.of(given.getProperty("output")));
        telling.start();
        pace.begin();
        senders.forEach(Thread::start);
        for (Thread one : senders) {
            one.join();
        }
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(CLOSE_S);
        for (KafkaProducer<String, byte[]> one : producers) {
            one.close(Duration.ofNanos(Math.max(until - System.nanoTime(), 0)));
        }
        drain();
        telling.end();
        drained = true;
        for (Reading one : readings) {
            one.join(TimeUnit.SECONDS.toMillis(CLOSE_S));
        }
        return acknowledged.sum() == 0 && !topics.isEmpty() ? 4 : 0;
    }

    /** What sends until the time is over; a thread has several producers where there are more of them than cores. */
    private List<Thread> senders(List<KafkaProducer<String, byte[]>> producers, List<String> topics, Pace pace)
            throws IOException {
        int threads = Math.min(producers.size(), Runtime.getRuntime().availableProcessors());
        List<byte[]> payloads = payloads();
        List<Thread> senders = new ArrayList<>();
        for (int thread = 0; thread < threads; thread++) {
            int first = thread;
            Keys keys = new Keys(given.getProperty("keys"));
            Random random = new Random(first);
            senders.add(new Thread(() -> {
                while (true) {
                    for (int i = first; i < producers.size(); i += threads) {
                        long due = pace.next();
                        if (!pace.waitFor(due)) {
                            return;
                        }
                        byte[] payload = payloads.get(random.nextInt(payloads.size()));
                        sendOne(producers.get(i), new ProducerRecord<>(topics.get(i), keys.next(), payload), due);
                    }
                }
            }, "sender-" + first));
        }
        return senders;
    }

    private void sendOne(KafkaProducer<String, byte[]> producer, ProducerRecord<String, byte[]> record, long due) {
        long began = System.nanoTime();
        try {
            producer.send(record, (metadata, error) -> {
                if (error != null) {
                    failed.increment();
                    tell("a record was not sent", error);
                    return;
                }
                long now = System.nanoTime();
                acknowledged.increment();
                sent.increment();
                sentBytes.add(record.value().length);
                service.add((now - began) / 1000);
                if (due != Pace.NOW) {
                    delay.add((began - due) / 1000);
                    latency.add((now - due) / 1000);
                } else {
                    latency.add((now - began) / 1000);
                }
            });
        } catch (RuntimeException error) {
            failed.increment();
            tell("a record was not sent", error);
        }
    }

    /** Waits until no record has come for a second. */
    private void drain() throws InterruptedException {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(DRAIN_S);
        long last = -1;
        while (System.nanoTime() < until && received.sum() != last) {
            last = received.sum();
            Thread.sleep(1000);
        }
    }

    private KafkaProducer<String, byte[]> producer(int index) {
        Properties settings = of("producer.");
        settings.put("client.id", given.getProperty("host") + "-producer-" + (index + 1));
        return new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer());
    }

    private List<byte[]> payloads() throws IOException {
        if (!given.getProperty("payload.file", "").isEmpty()) {
            return List.of(Files.readAllBytes(Path.of(given.getProperty("payload.file"))));
        }
        Random random = new Random(1);
        List<byte[]> found = new ArrayList<>();
        for (int i = 0; i < (int) number("payload.pool"); i++) {
            byte[] payload = new byte[(int) number("record.size")];
            byte[] bytes = new byte[(int) (payload.length * number("random.ratio"))];
            random.nextBytes(bytes);
            System.arraycopy(bytes, 0, payload, 0, bytes.length);
            found.add(payload);
        }
        return found;
    }

    private double number(String name) {
        return Double.parseDouble(given.getProperty(name));
    }

    private List<String> words(String name) {
        String text = given.getProperty(name, "");
        return text.isEmpty() ? List.of() : List.of(text.split(","));
    }

    private Properties of(String prefix) {
        Properties found = new Properties();
        for (String name : given.stringPropertyNames()) {
            if (name.startsWith(prefix)) {
                found.put(name.substring(prefix.length()), given.getProperty(name));
            }
        }
        return found;
    }

    private void tell(String what, Throwable error) {
        if (told.merge(error.getClass().getName(), 1, Integer::sum) <= MOST_TOLD) {
            System.err.println(what + ": " + error);
        }
    }

    /** When the next record is due, in ns of the JVM's clock; all threads share it. */
    private static final class Pace {
        static final long NOW = Long.MIN_VALUE; // as fast as possible: due when it is sent

        private final AtomicLong number = new AtomicLong();
        private final double interval;
        private final long length;
        private long start;
        private long end;

        Pace(double rate, double seconds) {
            interval = rate > 0 ? 1e9 / rate : 0;
            length = (long) (seconds * 1e9);
        }

        /** Counts from now on; before the threads start. */
        void begin() {
            start = System.nanoTime();
            end = start + length;
        }

        long next() {
            return interval == 0 ? NOW : start + (long) (number.getAndIncrement() * interval);
        }

        /** Waits until then; false where the time is over. */
        boolean waitFor(long due) {
            if (due != NOW && due - end >= 0) {
                return false;
            }
            long left;
            while (due != NOW && (left = due - System.nanoTime()) > 0) {
                LockSupport.parkNanos(left);
            }
            return System.nanoTime() - end < 0;
        }
    }

    /** OMB's key distributors: none, 10,000 keys one after the other, or one of them by the clock. */
    private static final class Keys {
        private static final int MANY = 10_000;

        private final String how;
        private final String[] keys = new String[MANY];
        private int at;

        Keys(String how) {
            this.how = how;
            Random random = new Random(2);
            byte[] bytes = new byte[7];
            for (int i = 0; i < MANY; i++) {
                random.nextBytes(bytes);
                keys[i] = Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
            }
        }

        String next() {
            switch (how) {
                case "round-robin":
                    at = (at + 1) % MANY;
                    return keys[at];
                case "random":
                    return keys[Math.floorMod(System.nanoTime(), MANY)];
                default:
                    return null;
            }
        }
    }

    /** A consumer of a topic and a subscription, which is a group. */
    private final class Reading extends Thread {
        private final KafkaConsumer<String, byte[]> consumer;
        private final String topic;
        private final CountDownLatch joined;
        private final boolean commits;
        private boolean first = true;

        Reading(String topic, String subscription, CountDownLatch joined) {
            super("reader-" + topic + "-" + subscription);
            Properties settings = of("consumer.");
            settings.put("group.id", topic + "-" + subscription);
            this.topic = topic;
            this.joined = joined;
            this.commits = !Boolean.parseBoolean(settings.getProperty("enable.auto.commit", "true"));
            this.consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
        }

        @Override
        public void run() {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    partitions.forEach(consumer::position); // from here on nothing is missed
                    if (first) {
                        joined.countDown();
                    }
                    first = false;
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}
            });
            while (!drained) {
                try {
                    read();
                } catch (RuntimeException error) {
                    tell("a consumer could not read", error);
                }
            }
            consumer.close();
        }

        private void read() {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                received.increment();
                receivedBytes.add(record.value().length);
                long milliseconds = System.currentTimeMillis() - record.timestamp();
                if (milliseconds < 0) {
                    ahead.increment();
                } else {
                    endToEnd.add(milliseconds * 1000);
                }
                if (commits) {
                    offsets.put(
                            new TopicPartition(record.topic(), record.partition()),
                            new OffsetAndMetadata(record.offset() + 1));
                }
            }
            if (!offsets.isEmpty()) {
                consumer.commitAsync(offsets, null);
            }
        }
    }

    /** How often each value (µs) was seen, in HdrHistogram's buckets of three digits. */
    private static final class Counts {
        private static final int HALF = 1024;
        private static final long MOST = 3_600_000_000L;
        private static final int SIZE = 24 * HALF;

        private final AtomicLongArray seen = new AtomicLongArray(SIZE);
        private final long[] before = new long[SIZE];
        private final AtomicLong highest = new AtomicLong();
        private final LongAdder sum = new LongAdder();

        void add(long microseconds) {
            long value = Math.min(Math.max(microseconds, 0), MOST);
            int shift = Math.max(53 - Long.numberOfLeadingZeros(value | 1), 0);
            seen.incrementAndGet(shift * HALF + (int) (value >> shift));
            sum.add(value);
            highest.accumulateAndGet(value, Math::max);
        }

        /** What was seen since the last time. */
        String json() {
            StringBuilder text = new StringBuilder("{\"counts\": {");
            String comma = "";
            for (int i = 0; i < SIZE; i++) {
                long now = seen.get(i);
                if (now != before[i]) {
                    int shift = Math.max(i / HALF - 1, 0);
                    long value = (long) (i - shift * HALF) << shift;
                    text.append(comma).append('"').append(value).append("\": ").append(now - before[i]);
                    before[i] = now;
                    comma = ", ";
                }
            }
            text.append("}, \"sum\": ").append(sum.sumThenReset());
            return text.append(", \"highest\": ").append(highest.getAndSet(0)).append('}').toString();
        }
    }

    /** Tells each second what was done in it. */
    private final class Telling extends Thread {
        private final PrintWriter out;
        private final long start = System.nanoTime();
        private final long startUs = System.currentTimeMillis() * 1000;
        private long told = start;

        Telling(Path output) throws IOException {
            super("telling");
            setDaemon(true);
            out = new PrintWriter(Files.newBufferedWriter(output.resolve("worker.jsonl"), StandardCharsets.UTF_8));
        }

        @Override
        public void run() {
            for (long second = 1; ; second++) {
                long left = start + TimeUnit.SECONDS.toNanos(second) - System.nanoTime();
                try {
                    TimeUnit.NANOSECONDS.sleep(left);
                } catch (InterruptedException ended) {
                    return;
                }
                line();
            }
        }

        private synchronized void line() {
            long now = System.nanoTime();
            out.printf(
                    "{\"end_us\": %d, \"seconds\": %.6f, \"sent\": %d, \"failed\": %d, \"sent_bytes\": %d, "
                            + "\"received\": %d, \"received_bytes\": %d, \"ahead\": %d, "
                            + "\"latency\": %s, \"service\": %s, \"delay\": %s, \"end to end\": %s}%n",
                    startUs + (now - start) / 1000,
                    (now - told) / 1e9,
                    sent.sumThenReset(),
                    failed.sumThenReset(),
                    sentBytes.sumThenReset(),
                    received.sumThenReset(),
                    receivedBytes.sumThenReset(),
                    ahead.sumThenReset(),
                    latency.json(),
                    service.json(),
                    delay.json(),
                    endToEnd.json());
            out.flush();
            told = now;
        }

        void end() throws InterruptedException {
            interrupt();
            join();
            line();
            out.close();
        }
    }
}
