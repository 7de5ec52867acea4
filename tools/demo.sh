#!/bin/sh
# The main job, whole: three Kafka brokers and a load host on this machine, load, a profile, its report.
set -eu
cd "$(dirname "$0")/.."
labtool=.venv/bin/labtool
export LABTOOL_LAB="${LABTOOL_LAB:-demo}"

say() { printf '\n\033[1m==> %s\033[0m\n' "$*" >&2; }

say "labtool deploy kafka-cluster: three hosts, three brokers"
$labtool deploy kafka-cluster
say "labtool profile --minutes 3 --workload kafka-throughput: 20,000 records/s for three minutes"
$labtool profile --minutes 3 --warmup 20 --workload kafka-throughput
say "the report: runs/$LABTOOL_LAB/latest/report.html"
say "the hosts are still up: try \`.venv/bin/labtool status --lab $LABTOOL_LAB\`; end them with
    .venv/bin/labtool down --lab $LABTOOL_LAB && .venv/bin/labtool cloud stop"
