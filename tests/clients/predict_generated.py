"""A program with the client that openapi-python-client makes: posts a file, prints the first label.

Arguments: the service's address and an image file.
"""

import json
import sys
from base64 import b64encode
from io import BytesIO
from pathlib import Path

from labelserve_client import Client
from labelserve_client.api.health import get_ready
from labelserve_client.api.predictions import predict, predict_batch
from labelserve_client.models import (
    Answer,
    BatchAnswer,
    JsonRequest,
    PredictBatchBody,
    PredictFilesBody,
    Problem,
)
from labelserve_client.types import File


def main() -> None:
    client = Client(base_url=sys.argv[1])
    data = Path(sys.argv[2]).read_bytes()

    def file() -> File:
        return File(payload=BytesIO(data), file_name="red.png", mime_type="image/png")

    bodies = {
        "raw": file(),
        "form": PredictFilesBody(image=file()),
        "json": JsonRequest(image=b64encode(data).decode()),
    }
    found = {}
    for name, body in bodies.items():
        answer = predict.sync(client=client, body=body, top_k=1)
        if not isinstance(answer, Answer):
            raise SystemExit(answer)
        found[name] = answer.predictions[0].label
    several = predict_batch.sync(client=client, body=PredictBatchBody(images=[file(), file()]))
    if not isinstance(several, BatchAnswer):
        raise SystemExit(several)
    found["batch"] = [result.predictions[0].label for result in several.results]
    refused = predict.sync(client=client, body=file(), top_k=0)
    if not isinstance(refused, Problem):
        raise SystemExit(refused)
    found["refused"] = refused.status
    sys.stdout.write(json.dumps({"status": get_ready.sync(client=client).status, **found}))


if __name__ == "__main__":
    main()
