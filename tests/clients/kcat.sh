#!/usr/bin/env bash
# Drives a Kafka broker with kcat: creates topics by using them, produces with every codec, lists, queries offsets,
# consumes, and consumes in a group that continues where it stopped.
#
# usage: kcat.sh HOST:PORT        RIVERMERE_KCAT names the program when it is not `kcat`
# Prints one line per check, `ok WHAT` or `FAIL WHAT: WHY`; the exit code is 1 when one failed.
set -uo pipefail

broker="$1"
program="${RIVERMERE_KCAT:-kcat}"
run="kcat-$$-$RANDOM"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# No command waits for ever on a broker that does not answer.
kcat() { timeout 40 "$program" -b "$broker" "$@" 2>"$work/errors"; }

# check WHAT EXPECTED ACTUAL
check() {
  if [ "$2" == "$3" ]; then
    passed=$((passed + 1))
    echo "ok $1"
  else
    failed=$((failed + 1))
    echo "FAIL $1: expected '${2:0:200}', got '${3:0:200}' $(tail -n 3 "$work/errors" | tr '\n' ' ')"
  fi
}

# Records as `key:value`, one per line.
records() { seq "$1" "$2" | sed 's/.*/key-&:value-&/'; }

topic="$run-events"
records 1 100 | kcat -P -t "$topic" -K : -X acks=all
check "producing to a topic that does not exist creates it" "0" "$?"

for codec in none gzip snappy lz4 zstd; do
  # Values long and repetitive enough that a client does compress them.
  seq 1 500 | awk -v codec="$codec" '{ printf "key-%d:%s-%0200d\n", $1, codec, $1 }' >"$work/sent"
  kcat -P -t "$run-$codec" -K : -z "$codec" -X linger.ms=50 <"$work/sent"
  kcat -C -t "$run-$codec" -o beginning -e -q -f '%k:%s\n' >"$work/received"
  check "$codec records come back as they were sent" "500 $(cksum <"$work/sent")" \
    "$(wc -l <"$work/received") $(cksum <"$work/received")"
done

records 1 200 | kcat -P -t "$run-idempotent" -K : -X enable.idempotence=true
check "an idempotent producer's records arrive once" "200" "$(kcat -C -t "$run-idempotent" -o beginning -e -q | wc -l)"

check "a topic is listed with its partition" "1" "$(kcat -L -t "$topic" | grep -c '^    partition 0, leader')"
check "all topics are listed" "1" "$(kcat -L | grep -c "topic \"$topic\"")"
check "the offset of the end is known" "$topic [0] offset 100" "$(kcat -Q -t "$topic:0:-1")"
check "the offset of the beginning is known" "$topic [0] offset 0" "$(kcat -Q -t "$topic:0:-2")"
check "an offset is found by time" "$topic [0] offset 0" "$(kcat -Q -t "$topic:0:1")"

check "records are read in order with their keys" "$(records 1 100 | cksum)" \
  "$(kcat -C -t "$topic" -o beginning -e -q -f '%k:%s\n' | cksum)"
check "reading starts at the offset asked for" "key-100:value-100 99" \
  "$(kcat -C -t "$topic" -o 99 -e -q -f '%k:%s %o\n')"
check "reading can start some records before the end" "3" "$(kcat -C -t "$topic" -o -3 -e -q | wc -l)"

printf 'with-headers\n' | kcat -P -t "$run-headers" -H colour=blue -H empty=
check "headers and an absent key come back" "colour=blue,empty= NULL with-headers" \
  "$(kcat -C -t "$run-headers" -o beginning -e -q -Z -f '%h %k %s\n')"
printf 'gone:' | kcat -P -t "$run-tombstone" -K : -Z
check "an absent value comes back" "gone NULL" "$(kcat -C -t "$run-tombstone" -o beginning -e -q -Z -f '%k %s\n')"

group() { kcat -q -G "$run-group" -e -X auto.offset.reset=earliest -f '%k\n' "$topic"; }
check "a consumer group reads everything" "100" "$(group | wc -l)"
records 101 130 | kcat -P -t "$topic" -K :
check "the group continues after the offset it committed" "$(seq -f 'key-%g' 101 130 | cksum)" "$(group | cksum)"

echo "$passed ok, $failed failed"
[ "$failed" -eq 0 ]
