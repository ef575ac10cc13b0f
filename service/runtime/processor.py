"""Whether this processor has the instructions that the packages are compiled to."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# What x86-64-v2 adds to the first x86-64, in Linux' words. numpy's wheels are compiled to it.
_X86_64_V2 = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}


def missing_instructions(cpuinfo: Path = CPUINFO) -> list[str]:
    """What of x86-64-v2 an x86 processor lacks, in Linux' words.

    There is nothing to say of other processors, of which every one with 64 bits will do, and where
    Linux does not list what there is.

    Args:
        cpuinfo: proc(5)'s list of processors.
    """
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), None)
    except OSError:
        return []
    return sorted(_X86_64_V2 - set(flags.split())) if flags else []
