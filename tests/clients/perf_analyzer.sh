# Triton's Performance Analyzer: 200 requests, four at a time: images per second and latencies.
# Argument: the service's address (127.0.0.1:8000).
set -eu
perf_analyzer -i http -u "$1" -m cifar10-deep --shape image:32,32,3 \
    --concurrency-range 4 --request-count 200
