"""summary.py JUNIT...: what ctest's runs came to.

Failures with the end of their output, tests that were skipped with the reason, and as the last line
"N passed, N failed, N skipped". Exits 1 where a test failed or none ran.
"""

import sys
import xml.etree.ElementTree as ElementTree

OUTPUT_LINES = 60


def output_lines(case):
    return [line for line in (case.findtext("system-out") or "").splitlines() if line.strip()]


def skip_reason(case):
    """What the test said itself, else what ctest says."""
    said = [line.strip() for line in output_lines(case) if "skip" in line.lower()]
    skipped = case.find("skipped")
    told = skipped.get("message") if skipped is not None else case.get("status")
    return said[-1] if said else told or "no reason given"


def is_skipped(case):
    """What a test or its author decided; one that could not run (not built, a file missing) failed."""
    skipped = case.find("skipped")
    told = skipped.get("message", "") if skipped is not None else ""
    return case.get("status") == "disabled" or told.startswith("SKIP_")


passed, failed, skipped = [], [], []
for path in sys.argv[1:]:
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        pile = passed if case.get("status") == "run" else skipped if is_skipped(case) else failed
        pile.append(case)
for case in failed:
    print(f"\nFAILED {case.get('name')} after {float(case.get('time')):.1f} s")
    for line in output_lines(case)[-OUTPUT_LINES:] or ["without output: ctest's line above says how"]:
        print(f"    {line}")
for case in skipped:
    print(f"skipped {case.get('name')}: {skip_reason(case)}")
print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(1 if failed or not passed else 0)
