# SPDX-License-Identifier: MIT
"""What an installed cxxloop consists of. The tests run on the source folder and would not notice a file left behind."""

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "cxxloop"


def test_every_file_of_the_package_is_installed():
    installed = re.findall(r"^  '([\w./]+)',$", (PACKAGE / "meson.build").read_text(), re.MULTILINE)
    patterns = ("*.py", "*.pyi", "py.typed", "admin_page/*")
    present = {str(path.relative_to(PACKAGE)) for pattern in patterns for path in PACKAGE.rglob(pattern)}
    assert sorted(installed) == sorted(present)
