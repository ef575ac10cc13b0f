"""What of x86-64-v2 a processor lacks, by /proc/cpuinfo."""

from pathlib import Path

import pytest

from service.runtime.processor import missing_instructions

V2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
# The start of what Linux shows of a virtual kvm64, and of an arm64 processor.
KVM64 = (
    "flags\t\t: fpu de pse tsc msr mmx fxsr sse sse2 ht syscall nx lm pni cx16 x2apic hypervisor\n"
)
ARM64 = "Features\t: fp asimd evtstrm crc32 cpuid\n"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (KVM64, "lahf_lm popcnt sse4_1 sse4_2 ssse3"),
        (f"flags\t\t: fpu {V2} avx2\n", ""),
        (f"flags\t\t: fpu {V2.replace('popcnt ', '')}\n", "popcnt"),
        (ARM64, ""),
        ("", ""),
    ],
    ids=["kvm64", "v2", "one", "arm64", "nothing"],
)
def test_what_is_missing(tmp_path: Path, text: str, missing: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: any\n{text}\n{text}", encoding="utf-8")
    assert missing_instructions(file) == missing.split()


def test_where_linux_lists_nothing(tmp_path: Path) -> None:
    assert missing_instructions(tmp_path / "cpuinfo") == []
