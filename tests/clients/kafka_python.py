"""Drives a Kafka broker with kafka-python, the pure Python client: topics, all codecs, an idempotent producer, a group.

usage: kafka_python.py HOST:PORT
"""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError

from checks import RUN, SECONDS, broker, check, deadline, equal, finish

BROKER = broker()
CODECS = (None, "gzip", "snappy", "lz4", "zstd")
admin = KafkaAdminClient(bootstrap_servers=BROKER)


def name(what):
    return f"kafka-python-{RUN}-{what}"


def create_topic(topic, partitions):
    admin.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=1)])


def produce(topic, count, first=0, **settings):
    producer = KafkaProducer(bootstrap_servers=BROKER, acks="all", linger_ms=20, **settings)
    sent = []
    for number in range(first, first + count):
        value = b"value-%d-" % number + b"x" * 100
        headers = [("number", str(number).encode())]
        sent.append(producer.send(topic, key=b"key-%d" % number, value=value, headers=headers))
    producer.flush(SECONDS)
    answers = [future.get(SECONDS) for future in sent]
    producer.close()
    return answers


def consumer(*topics, **settings):
    return KafkaConsumer(
        *topics, bootstrap_servers=BROKER, auto_offset_reset="earliest", enable_auto_commit=False, **settings
    )


def consume(reader, count):
    """Reads `count` records, or fewer when time runs out."""
    records, has_time = [], deadline()
    while len(records) < count and has_time():
        for batch in reader.poll(timeout_ms=500).values():
            records.extend(batch)
    return records


def created_listed_deleted():
    topic = name("short-lived")
    create_topic(topic, 3)
    equal(topic in admin.list_topics(), True)
    reader = consumer()
    equal(sorted(reader.partitions_for_topic(topic)), [0, 1, 2])
    reader.close()
    admin.delete_topics([topic])
    has_time = deadline()
    while topic in admin.list_topics():
        equal(has_time(), True)


def created_twice():
    topic = name("twice")
    create_topic(topic, 1)
    try:
        create_topic(topic, 1)
    except TopicAlreadyExistsError:
        return
    raise AssertionError("the second creation did not fail")


def codec(compression):
    topic = name(str(compression))
    create_topic(topic, 1)
    answers = produce(topic, 500, compression_type=compression)
    equal([answer.offset for answer in answers], list(range(500)))
    reader = consumer(topic)
    records = consume(reader, 500)
    reader.close()
    equal([record.offset for record in records], list(range(500)))
    equal([record.key for record in records], [b"key-%d" % number for number in range(500)])
    equal(records[7].value, b"value-7-" + b"x" * 100)
    equal(list(records[7].headers), [("number", b"7")])


def idempotent():
    topic = name("idempotent")
    create_topic(topic, 4)
    produce(topic, 2_000, enable_idempotence=True, compression_type="lz4")
    reader = consumer()
    ends = reader.end_offsets([TopicPartition(topic, part) for part in range(4)])
    reader.close()
    equal(sum(ends.values()), 2_000)


def offsets():
    part = TopicPartition(name("None"), 0)
    reader = consumer()
    reader.assign([part])
    equal(reader.beginning_offsets([part])[part], 0)
    equal(reader.end_offsets([part])[part], 500)
    equal(reader.offsets_for_times({part: 1})[part].offset, 0)
    reader.seek(part, 499)
    equal([record.offset for record in consume(reader, 1)], [499])
    reader.close()


def group_continues():
    topic, group = name("group"), name("group")
    create_topic(topic, 2)
    produce(topic, 300)
    first = consumer(topic, group_id=group)
    equal(len(consume(first, 300)), 300)
    first.commit()
    first.close()

    produce(topic, 50, first=300)
    second = consumer(topic, group_id=group)
    keys = sorted(int(record.key[4:]) for record in consume(second, 50))
    equal(keys, list(range(300, 350)))
    second.commit()
    equal(sum(second.committed(TopicPartition(topic, part)) for part in range(2)), 350)
    second.close()


def group_shares():
    topic, group = name("shared"), name("shared")
    create_topic(topic, 2)
    members = [consumer(topic, group_id=group), consumer(topic, group_id=group)]
    has_time = deadline()
    while not all(len(member.assignment()) == 1 for member in members):
        equal(has_time(), True)
        for member in members:
            member.poll(timeout_ms=200)
    parts = sorted(part.partition for member in members for part in member.assignment())
    for member in members:
        member.close()
    equal(parts, [0, 1])


check("a topic is created, listed and deleted", created_listed_deleted)
check("creating a topic that exists is refused", created_twice)
for compression in CODECS:
    check(f"{compression or 'uncompressed'} records come back as they were sent", lambda: codec(compression))
check("an idempotent producer's records arrive once", idempotent)
check("offsets are known, found by time, and can be sought", offsets)
check("a group continues after the offset it committed", group_continues)
check("two members of a group share the partitions", group_shares)
admin.close()
finish()
