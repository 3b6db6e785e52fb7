"""Compares a report of the Autobahn test suite with what is expected.

    compare.py REPORTS EXPECTED [GROUP...]

REPORTS is the suite's folder of JSON reports, EXPECTED a file with

    cases    group -> how many of its cases have to be in the report, so that
             none can go missing; of the groups that are named, if any are
    not_ok   case -> expected result, for the cases where that is not OK; those
             are INFORMATIONAL for every server, since any answer is right

A case's result is the worse of its behavior and its close behavior. One that
is worse than expected, or missing, is a failure, and the exit status 1; one
that is better is named, so that the file can be brought up to date.
"""

import collections
import json
import os
import sys

# From best to worst; whatever else the suite says is worse still.
ORDER = ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "FAILED"]


def rank(result):
    return ORDER.index(result) if result in ORDER else len(ORDER)


def main(reports, expected_file, *groups):
    with open(expected_file) as file:
        expected = json.load(file)
    with open(os.path.join(reports, "index.json")) as file:
        (cases,) = json.load(file).values()

    failures = 0
    results = collections.Counter()
    ran = collections.Counter()
    for case, report in cases.items():
        both = report["behavior"], report["behaviorClose"]
        result = max(both, key=rank)
        wanted = expected["not_ok"].get(case, "OK")
        results[result] += 1
        ran[case.split(".")[0]] += 1
        if rank(result) > rank(wanted):
            failures += 1
            print(f"FAILED {case}: {both[0]}, close {both[1]}, expected {wanted}")
            print(f"    see {os.path.join(reports, report['reportfile'])}")
        elif rank(result) < rank(wanted):
            print(f"better {case}: {result}, expected {wanted}: update {expected_file}")

    for group, count in expected["cases"].items():
        if (not groups or group in groups) and ran[group] != count:
            failures += 1
            print(f"FAILED group {group}: {ran[group]} of its {count} cases ran")

    summary = ", ".join(f"{results[result]} {result}" for result in sorted(results, key=rank))
    print(f"conformance: {summary} of {len(cases)} cases; {failures} not as expected")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
