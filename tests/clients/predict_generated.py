"""A program with the client that openapi-python-client makes: posts a file, prints the first label.

Arguments: the service's address and an image file.
"""

import json
import sys
from io import BytesIO
from pathlib import Path

from labelserve_client import Client
from labelserve_client.api.health import get_ready
from labelserve_client.api.predictions import predict, predict_batch
from labelserve_client.models import (
    BatchPredictions,
    PredictBatchBody,
    PredictFilesBody,
    Predictions,
    Problem,
)
from labelserve_client.types import File


def main() -> None:
    client = Client(base_url=sys.argv[1])
    data = Path(sys.argv[2]).read_bytes()

    def file() -> File:
        return File(payload=BytesIO(data), file_name="red.png", mime_type="image/png")

    found = {}
    status = get_ready.sync(client=client)
    single = predict.sync(client=client, body=PredictFilesBody(image=file()), top_k=1)
    if not isinstance(single, Predictions):
        raise SystemExit(single)
    found["single"] = single.predictions[0].label
    several = predict_batch.sync(client=client, body=PredictBatchBody(images=[file(), file()]))
    if not isinstance(several, BatchPredictions):
        raise SystemExit(several)
    found["several"] = [result.predictions[0].label for result in several.results]
    refused = predict.sync(client=client, body=file(), top_k=0)
    if not isinstance(refused, Problem):
        raise SystemExit(refused)
    found["refused"] = refused.status
    sys.stdout.write(json.dumps({"status": status.status, **found}))


if __name__ == "__main__":
    main()
