"""Drives a Kafka broker with confluent-kafka (librdkafka): topics, all codecs, an idempotent producer, a group.

usage: confluent.py HOST:PORT
"""

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from checks import RUN, SECONDS, broker, check, deadline, equal, finish

BROKER = broker()
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
admin = AdminClient({"bootstrap.servers": BROKER})


def name(what):
    return f"confluent-{RUN}-{what}"


def produce(topic, count, first=0, **settings):
    errors = []
    producer = Producer({"bootstrap.servers": BROKER, "acks": "all", "linger.ms": 20} | settings)
    for number in range(first, first + count):
        value = b"value-%d-" % number + b"x" * 100
        producer.produce(
            topic, key=b"key-%d" % number, value=value, headers={"number": str(number)},
            on_delivery=lambda error, message: errors.append(error) if error else None,
        )  # fmt: skip
        producer.poll(0)
    left = producer.flush(SECONDS)
    equal((left, errors), (0, []))


def consume(consumer, count):
    """Reads `count` records, or fewer when time runs out."""
    records, has_time = [], deadline()
    while len(records) < count and has_time():
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        records.append(message)
    return records


def reader(topic, partition=0):
    consumer = Consumer({"bootstrap.servers": BROKER, "group.id": name("unused"), "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0)])
    return consumer


def member(group):
    settings = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    return Consumer({"bootstrap.servers": BROKER} | settings)


def create_topic(topic, partitions):
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(SECONDS)


def created_listed_deleted():
    topic = name("short-lived")
    create_topic(topic, 3)
    equal(sorted(admin.list_topics(timeout=SECONDS).topics[topic].partitions), [0, 1, 2])
    admin.delete_topics([topic])[topic].result(SECONDS)
    has_time = deadline()
    while topic in admin.list_topics(timeout=SECONDS).topics:
        equal(has_time(), True)


def created_twice():
    topic = name("twice")
    create_topic(topic, 1)
    try:
        create_topic(topic, 1)
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)
    else:
        raise AssertionError("the second creation did not fail")


def codec(compression):
    topic = name(compression)
    create_topic(topic, 1)
    produce(topic, 500, **{"compression.type": compression})
    consumer = reader(topic)
    records = consume(consumer, 500)
    consumer.close()
    equal([record.offset() for record in records], list(range(500)))
    equal([record.key() for record in records], [b"key-%d" % number for number in range(500)])
    equal(records[7].value(), b"value-7-" + b"x" * 100)
    equal(records[7].headers(), [("number", b"7")])


def idempotent():
    topic = name("idempotent")
    create_topic(topic, 4)
    produce(topic, 2_000, **{"enable.idempotence": True, "compression.type": "lz4"})
    ends = admin.list_offsets({TopicPartition(topic, part): OffsetSpec.latest() for part in range(4)})
    equal(sum(end.result(SECONDS).offset for end in ends.values()), 2_000)


def offsets():
    topic = name("none")
    consumer = reader(topic)
    equal(consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS), (0, 500))
    equal(consumer.offsets_for_times([TopicPartition(topic, 0, 1)], SECONDS)[0].offset, 0)
    # A position can be sought once the partition is being read.
    equal([record.offset() for record in consume(consumer, 1)], [0])
    consumer.seek(TopicPartition(topic, 0, 499))
    equal([record.offset() for record in consume(consumer, 1)], [499])
    consumer.close()


def group_continues():
    topic, group = name("group"), name("group")
    create_topic(topic, 2)
    produce(topic, 300)
    first = member(group)
    first.subscribe([topic])
    equal(len(consume(first, 300)), 300)
    first.commit(asynchronous=False)
    first.close()

    produce(topic, 50, first=300)
    second = member(group)
    second.subscribe([topic])
    keys = sorted(int(record.key()[4:]) for record in consume(second, 50))
    equal(keys, list(range(300, 350)))
    second.commit(asynchronous=False)
    committed = second.committed([TopicPartition(topic, part) for part in range(2)], SECONDS)
    equal(sum(part.offset for part in committed), 350)
    second.close()


def group_shares():
    topic, group = name("shared"), name("shared")
    create_topic(topic, 2)
    members = [member(group), member(group)]
    for consumer in members:
        consumer.subscribe([topic])
    has_time = deadline()
    while not all(len(consumer.assignment()) == 1 for consumer in members):
        equal(has_time(), True)
        for consumer in members:
            consumer.poll(0.2)
    parts = sorted(consumer.assignment()[0].partition for consumer in members)
    for consumer in members:
        consumer.close()
    equal(parts, [0, 1])


check("a topic is created, listed and deleted", created_listed_deleted)
check("creating a topic that exists is refused", created_twice)
for compression in CODECS:
    check(f"{compression} records come back as they were sent", lambda: codec(compression))
check("an idempotent producer's records arrive once", idempotent)
check("offsets are known, found by time, and can be sought", offsets)
check("a group continues after the offset it committed", group_continues)
check("two members of a group share the partitions", group_shares)
finish()
