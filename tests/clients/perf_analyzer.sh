# Triton's Performance Analyzer: images per second and latencies with 1, 2 and 4 requests at a time.
# Argument: the service's address (127.0.0.1:8000).
set -eu
perf_analyzer -i http -u "$1" -m cifar10-deep --shape image:32,32,3 --concurrency-range 1:4:1
