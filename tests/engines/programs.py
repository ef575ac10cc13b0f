"""How the programs are run: each with the interpreter of its engine, as on a machine of its own."""

import os
import re

from tests.server import ROOT

_LOCK = (ROOT / "requirements" / "parquet.txt").read_text(encoding="utf-8")
# Names and versions, and the Pythons that they are for; without hashes, which engines have none of.
_OURS = re.findall(r"^([a-z][\w.-]*==[^\\\n]+?) *\\?$", _LOCK, re.MULTILINE)
PACKAGES = {
    "ray": ("ray[data]==2.60.0", *_OURS),
    "spark": ("pyspark[sql]==4.3.0", "pandas<3", *_OURS),
}


def environment(cores: int) -> dict[str, str]:
    """Variables for a program that starts its engine on this machine, on so many cores."""
    spark = f"--master local[{cores}] --conf spark.ui.enabled=false pyspark-shell"
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_OVERRIDE_RESOURCES": f'{{"CPU": {cores}}}',
        "RAY_worker_niceness": "0",  # as all others: it would be 15
        "PYSPARK_SUBMIT_ARGS": spark,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
