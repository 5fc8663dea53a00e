"""Our broker beside Apache Kafka, with one client for both: librdkafka, through confluent-kafka.

usage: python broker.py OURS [--rounds 3] [--records 300000] [--kafka 'cargo xtask peers kafka']

OURS is the program of `main.rs` beside this file; Kafka is started by the command given.
Both run from start to end; every round measures one after the other, in turns, so that what else the machine does
reaches both. One topic of one partition, acks=all, no compression, linger 5 ms for throughput and 0 for latency.

Throughput includes the Python client, which is the slower end at 100 bytes. The CPU time of the broker's process is
its own: user and system, from /proc.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = Path(__file__).resolve().parents[2]
LATENCY_RATE = 500
LATENCY_SECONDS = 6
WARM_UP_RECORDS = 50_000
DEADLINE_S = 120


class Broker:
    """A running broker: its address, and the CPU time of its process."""

    def __init__(self, name, command, ready):
        self.name = name
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            found = re.search(ready, line)
            if found:
                self.address = found.group(1)
                break
        else:
            sys.exit(f"{name} ended before it was ready")
        self.pid = busiest_below(self.process.pid)

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text()).group(1)) / 1000

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def busiest_below(pid):
    """The process itself or the descendant with the most memory: a script's child is the broker."""
    pids, seen = [pid], []
    while pids:
        pid = pids.pop()
        seen.append(pid)
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += [int(child) for child in (task / "children").read_text().split()]
    return max(seen, key=lambda pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]))


def topic(broker):
    name = f"bench-{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": broker.address})
    for future in admin.create_topics([NewTopic(name, 1, 1)]).values():
        future.result(30)
    return name


def produce(broker, name, size, records):
    """Records per second, until the last one is acknowledged."""
    failed = []
    producer = Producer({
        "bootstrap.servers": broker.address, "acks": "all", "linger.ms": 5, "batch.size": 1_000_000,
        "queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 500_000,
        "delivery.report.only.error": True,
    })
    value = os.urandom(size)
    report = lambda error, _: failed.append(error) if error else None
    started = time.perf_counter()
    for number in range(records):
        while True:
            try:
                producer.produce(name, value, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.01)
    left = producer.flush(DEADLINE_S)
    took = time.perf_counter() - started
    if failed or left:
        sys.exit(f"{broker.name}: {len(failed)} records failed, {left} were not acknowledged: {failed[:1]}")
    return records / took


def consume(broker, name, records):
    """Records per second, from the first one that arrives to the last."""
    consumer = Consumer({
        "bootstrap.servers": broker.address, "group.id": uuid.uuid4().hex, "enable.auto.commit": False,
        "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 200_000, "fetch.message.max.bytes": 4_000_000,
    })
    consumer.assign([TopicPartition(name, 0, 0)])
    got, started, deadline = 0, None, time.monotonic() + DEADLINE_S
    while got < records:
        messages = consumer.consume(10_000, 1.0)
        if started is None and messages:
            started, got = time.perf_counter(), 0
            first = len(messages)
        got += len(messages)
        for message in messages:
            if message.error():
                sys.exit(f"{broker.name}: {message.error()}")
        if time.monotonic() > deadline:
            sys.exit(f"{broker.name}: {got} of {records} records arrived")
    took = time.perf_counter() - started
    consumer.close()
    return (records - first) / took if records > first else float("nan")


def latencies(broker, name, size):
    """Milliseconds from produce to acknowledgement, at a steady rate."""
    producer = Producer({"bootstrap.servers": broker.address, "acks": "all", "linger.ms": 0})
    value, took = os.urandom(size), []
    start = time.perf_counter() + 0.2
    for number in range(LATENCY_RATE * LATENCY_SECONDS):
        due = start + number / LATENCY_RATE
        while (left := due - time.perf_counter()) > 0:
            producer.poll(min(left, 0.002))
        sent = time.perf_counter()

        def acknowledged(error, _, sent=sent):
            if error:
                sys.exit(f"{broker.name}: {error}")
            took.append((time.perf_counter() - sent) * 1e3)

        producer.produce(name, value, on_delivery=acknowledged)
        producer.poll(0)
    producer.flush(DEADLINE_S)
    # The first half second connects and warms.
    return sorted(took[LATENCY_RATE // 2:])


def percentile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))]


def measure(broker, records):
    found = {}
    for size, count in [(100, records), (1000, records // 2)]:
        name = topic(broker)
        before = broker.cpu_seconds()
        found[f"produce {size} B, k rec/s"] = produce(broker, name, size, count) / 1e3
        between = broker.cpu_seconds()
        found[f"consume {size} B, k rec/s"] = consume(broker, name, count) / 1e3
        after = broker.cpu_seconds()
        found[f"broker CPU, produce {size} B, ms per M records"] = (between - before) * 1e9 / count
        found[f"broker CPU, consume {size} B, ms per M records"] = (after - between) * 1e9 / count
    for size in [100, 1000]:
        values = latencies(broker, topic(broker), size)
        found[f"produce to ack {size} B at {LATENCY_RATE}/s, p50 ms"] = percentile(values, 0.5)
        found[f"produce to ack {size} B at {LATENCY_RATE}/s, p99 ms"] = percentile(values, 0.99)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--kafka", default="cargo xtask peers kafka")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours = Broker("ours", [options.ours, "serve", f"{folder}/ours", "0"], r"listening on (\S+)")
        kafka = Broker("kafka", options.kafka.split(), r"READY kafka (\S+)")
        brokers = [ours, kafka]
        try:
            for broker in brokers:
                name = topic(broker)
                produce(broker, name, 100, WARM_UP_RECORDS)
                consume(broker, name, WARM_UP_RECORDS)
            rounds = {broker.name: [] for broker in brokers}
            for number in range(options.rounds):
                for broker in brokers if number % 2 == 0 else brokers[::-1]:
                    rounds[broker.name].append(measure(broker, options.records))
                print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
            print(f"{'median of ' + str(options.rounds) + ' rounds [all]':<46} {'ours':>26} {'Kafka 4.4.0':>26} {'ours/Kafka':>10}")
            for figure in rounds["ours"][0]:
                values = {name: [one[figure] for one in found] for name, found in rounds.items()}
                shown = {
                    name: f"{statistics.median(all_of):.4g} [{' '.join(f'{value:.4g}' for value in all_of)}]"
                    for name, all_of in values.items()
                }
                ratio = statistics.median(values["ours"]) / max(statistics.median(values["kafka"]), 1e-9)
                print(f"{figure:<46} {shown['ours']:>26} {shown['kafka']:>26} {ratio:>10.2f}")
            print(f"{'resident memory at the end, MB':<46} {ours.resident_mb():>26.0f} {kafka.resident_mb():>26.0f}")
        finally:
            for broker in brokers:
                broker.stop()


if __name__ == "__main__":
    main()
