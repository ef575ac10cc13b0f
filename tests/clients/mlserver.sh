# MLServer's batch client: a file with one request in each line, and one with the answers.
# Arguments: the service's address (127.0.0.1:8000) and image files.
set -eu
address=$1
shift
for file; do
    printf '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["%s"]}]}\n' \
        "$(base64 -w 0 "$file")"
done > requests.jsonl
mlserver infer --url "$address" --model-name cifar10-deep --workers 2 --batch-size 4 \
    --input-data-path requests.jsonl --output-data-path answers.jsonl
cat answers.jsonl
