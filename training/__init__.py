"""Offline training: images in, one self-describing ONNX file out.

TensorFlow and Keras live in this package and nowhere else, and are imported inside the functions
that need them: `--help` and every complaint about the input come before those seconds.
"""

import os

# Both must stand before the first import of TensorFlow, wherever that happens; a value that the
# caller has set wins. Level 2 keeps TensorFlow's errors and drops its start-up chatter.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
