import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Drives a Kafka broker with the Java client: topics, all codecs, an idempotent producer, a group.
 *
 * <p>usage: java -cp 'JARS/*' JavaClients.java HOST:PORT
 *
 * <p>Prints one line per check, {@code ok WHAT} or {@code FAIL WHAT: WHY}; the exit code is 1 when one failed.
 */
public class JavaClients {
    /** No check waits longer for a broker that does not answer. */
    static final int SECONDS = 40;

    static final String RUN = "java-" + ProcessHandle.current().pid() + "-" + System.nanoTime() % 1_000_000;

    static String broker;
    static Admin admin;
    static int passed = 0;
    static int failed = 0;

    interface Check {
        void run() throws Exception;
    }

    public static void main(String[] arguments) {
        if (arguments.length != 1 || !arguments[0].contains(":")) {
            System.err.println("usage: java -cp 'JARS/*' JavaClients.java HOST:PORT");
            System.exit(2);
        }
        broker = arguments[0];
        admin = Admin.create(settings("default.api.timeout.ms", SECONDS * 1000));
        check("a topic is created, described, listed and deleted", JavaClients::createdListedDeleted);
        check("creating a topic that exists is refused", JavaClients::createdTwice);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            check(codec + " records come back as they were sent", () -> codec(codec));
        }
        check("an idempotent producer's records arrive once", JavaClients::idempotent);
        check("offsets are known, found by time, and can be sought", JavaClients::offsets);
        check("a group continues after the offset it committed", JavaClients::groupContinues);
        check("two members of a group share the partitions", JavaClients::groupShares);
        admin.close(Duration.ofSeconds(5));
        System.out.println(passed + " ok, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    static void createdListedDeleted() throws Exception {
        String topic = name("short-lived");
        create(topic, 3);
        equal(await(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size(), 3);
        equal(await(admin.listTopics().names()).contains(topic), true);
        await(admin.deleteTopics(List.of(topic)).all());
        long end = end();
        while (await(admin.listTopics().names()).contains(topic)) {
            equal(System.nanoTime() < end, true);
        }
    }

    static void createdTwice() throws Exception {
        String topic = name("twice");
        create(topic, 1);
        try {
            create(topic, 1);
        } catch (ExecutionException error) {
            equal(error.getCause().getClass(), TopicExistsException.class);
            return;
        }
        throw new AssertionError("the second creation did not fail");
    }

    static void codec(String codec) throws Exception {
        String topic = name(codec);
        create(topic, 1);
        List<Long> answered = produce(topic, 0, 500, "compression.type", codec);
        equal(answered, IntStream.range(0, 500).mapToObj(Long::valueOf).toList());
        try (var consumer = consumer()) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            var records = consume(consumer, 500);
            equal(records.stream().map(ConsumerRecord::key).toList(), keys(0, 500));
            equal(records.get(7).value(), value(7));
            equal(new String(records.get(7).headers().lastHeader("number").value()), "7");
        }
    }

    static void idempotent() throws Exception {
        String topic = name("idempotent");
        create(topic, 4);
        produce(topic, 0, 2_000, "enable.idempotence", true, "compression.type", "lz4");
        var latest = IntStream.range(0, 4).boxed()
            .collect(Collectors.toMap(part -> new TopicPartition(topic, part), part -> OffsetSpec.latest()));
        long sum = await(admin.listOffsets(latest).all()).values().stream().mapToLong(end -> end.offset()).sum();
        equal(sum, 2_000L);
    }

    static void offsets() {
        TopicPartition part = new TopicPartition(name("none"), 0);
        try (var consumer = consumer()) {
            consumer.assign(List.of(part));
            equal(consumer.beginningOffsets(List.of(part)).get(part), 0L);
            equal(consumer.endOffsets(List.of(part)).get(part), 500L);
            equal(consumer.offsetsForTimes(Map.of(part, 1L)).get(part).offset(), 0L);
            consumer.seek(part, 499);
            equal(consume(consumer, 1).get(0).offset(), 499L);
        }
    }

    static void groupContinues() throws Exception {
        String topic = name("group");
        create(topic, 2);
        produce(topic, 0, 300);
        try (var consumer = consumer("group.id", topic)) {
            consumer.subscribe(List.of(topic));
            equal(consume(consumer, 300).size(), 300);
            consumer.commitSync(Duration.ofSeconds(SECONDS));
        }
        produce(topic, 300, 50);
        try (var consumer = consumer("group.id", topic)) {
            consumer.subscribe(List.of(topic));
            Set<String> keys = consume(consumer, 50).stream().map(ConsumerRecord::key).collect(Collectors.toSet());
            equal(keys, new HashSet<>(keys(300, 50)));
            consumer.commitSync(Duration.ofSeconds(SECONDS));
        }
        long committed = await(admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata()).values().stream()
            .mapToLong(offset -> offset.offset()).sum();
        equal(committed, 350L);
    }

    static void groupShares() throws Exception {
        String topic = name("shared");
        create(topic, 2);
        try (var first = consumer("group.id", topic); var second = consumer("group.id", topic)) {
            first.subscribe(List.of(topic));
            second.subscribe(List.of(topic));
            long end = end();
            while (first.assignment().size() != 1 || second.assignment().size() != 1) {
                equal(System.nanoTime() < end, true);
                first.poll(Duration.ofMillis(200));
                second.poll(Duration.ofMillis(200));
            }
            Set<TopicPartition> parts = new HashSet<>(first.assignment());
            parts.addAll(second.assignment());
            equal(parts.size(), 2);
        }
    }

    // What the checks are made of.

    static void check(String what, Check check) {
        long start = System.nanoTime();
        try {
            check.run();
            passed++;
            System.out.printf("ok %s (%.2f s)%n", what, (System.nanoTime() - start) / 1e9);
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.println("FAIL " + what + ": " + String.valueOf(error).replace('\n', ' '));
        }
    }

    static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError("expected " + brief(expected) + ", got " + brief(actual));
        }
    }

    static String brief(Object value) {
        String text = String.valueOf(value);
        return text.substring(0, Math.min(text.length(), 150));
    }

    static String name(String what) {
        return RUN + "-" + what;
    }

    static long end() {
        return System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
    }

    static <T> T await(Future<T> future) throws Exception {
        return future.get(SECONDS, TimeUnit.SECONDS);
    }

    static Map<String, Object> settings(Object... more) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", broker));
        for (int i = 0; i < more.length; i += 2) {
            settings.put((String) more[i], more[i + 1]);
        }
        return settings;
    }

    static void create(String topic, int partitions) throws Exception {
        await(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all());
    }

    static String value(int number) {
        return "value-" + number + "-" + "x".repeat(100);
    }

    static List<String> keys(int first, int count) {
        return IntStream.range(first, first + count).mapToObj(number -> "key-" + number).toList();
    }

    /** Sends records and answers the offsets at which the broker says they are. */
    static List<Long> produce(String topic, int first, int count, Object... more) throws Exception {
        Map<String, Object> settings = settings(more);
        settings.put("acks", "all");
        settings.put("linger.ms", 20);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = first; number < first + count; number++) {
                var record = new ProducerRecord<>(topic, "key-" + number, value(number));
                record.headers().add("number", String.valueOf(number).getBytes());
                sent.add(producer.send(record));
            }
            producer.flush();
        }
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> answer : sent) {
            offsets.add(await(answer).offset());
        }
        return offsets;
    }

    static KafkaConsumer<String, String> consumer(Object... more) {
        Map<String, Object> settings = settings(more);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    /** Reads a number of records, or fewer when time runs out. */
    static List<ConsumerRecord<String, String>> consume(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long end = end();
        while (records.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(300)).forEach(records::add);
        }
        return records;
    }
}
