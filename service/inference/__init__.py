"""From image bytes to probabilities, without HTTP.

onnxruntime sends telemetry from a thread that starts with its import. The variable has to be set
before that import, so it is set in the package that every importer of onnxruntime passes through.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
