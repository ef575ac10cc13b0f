"""Hugging Face's client, as for an inference endpoint of theirs."""

import json
import sys

from huggingface_hub import InferenceClient

ADDRESS, *FILES = sys.argv[1:]


def main() -> None:
    client = InferenceClient(model=f"http://{ADDRESS}/huggingface")
    answers = {
        "all": [client.image_classification(name) for name in FILES],
        "best": [client.image_classification(name, top_k=1)[0] for name in FILES],
    }
    print(json.dumps(answers, indent=2))


if __name__ == "__main__":
    main()
