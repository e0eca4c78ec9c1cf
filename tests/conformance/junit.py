# SPDX-License-Identifier: MIT
"""Writes outcomes as a JUnit report, for what counts the cases of several runners."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TAGS = {"failed": "failure", "expected": "skipped", "skipped": "skipped"}
NOT_IN_XML = re.compile("[^\\t\\n\\r -\\ud7ff\\ue000-\\ufffd]")


def write(path: Path, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
    """A case for every test that concerned the loop."""
    suite = ElementTree.Element("testsuite", name="conformance")
    for name, outcome in outcomes.items():
        if outcome["verdict"] == "no loop":
            continue
        class_name, _, test = name.rpartition(".")
        case = ElementTree.SubElement(suite, "testcase", classname=class_name, name=test, time=str(outcome["seconds"]))
        tag = TAGS.get(outcome["verdict"])
        if tag is not None:
            ElementTree.SubElement(case, tag, message=outcome["status"]).text = NOT_IN_XML.sub("?", outcome["detail"])
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
