# SPDX-License-Identifier: MIT
"""What a table says about the processor it was measured on."""

import platform
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _machine import machine_line, processor  # noqa: E402  # after sys.path says where it is

TWO_CORES = """\
processor\t: 0
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu {flags} fsrm_not

processor\t: 1
cpu family\t: 25
model\t\t: 17
model name\t: another
flags\t\t: fpu erms fsrm
"""


@pytest.mark.parametrize(("flags", "said"), [("fsrm erms", "erms fsrm"), ("erms", "erms"), ("sse2", "no erms no fsrm")])
def test_name_family_and_the_flags_that_decide_how_the_kernel_copies(flags: str, said: str) -> None:
    assert processor(TWO_CORES.format(flags=flags)) == f"AMD EPYC (family 25, model 17, {said})"


def test_a_processor_without_these_fields_is_known_by_its_architecture() -> None:
    assert processor("processor\t: 0\nBogoMIPS\t: 50.00\n").startswith(platform.machine())


def test_the_line_under_a_table_names_kernel_and_python() -> None:
    line = machine_line("3.14.1 (main) [GCC]")
    assert platform.release() in line and line.endswith("Python 3.14.1")
