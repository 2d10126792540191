#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Prints "passed failed skipped" for one result file: Meson's testlog.json or pytest's JUnit XML. Failed names go to stderr."""
import json
import sys
import xml.etree.ElementTree as tree

GOOD = {'OK', 'EXPECTEDFAIL'}


def meson(file):
    for line in open(file):
        entry = json.loads(line)
        result = entry['result']
        yield entry['name'], 'skipped' if result == 'SKIP' else 'passed' if result in GOOD else 'failed'


def junit(file):
    for case in tree.parse(file).iter('testcase'):
        kinds = {child.tag for child in case}
        verdict = 'failed' if kinds & {'failure', 'error'} else 'skipped' if 'skipped' in kinds else 'passed'
        yield f"{case.get('classname')}::{case.get('name')}", verdict


def main():
    rows = list((meson if sys.argv[1].endswith('.json') else junit)(sys.argv[1]))
    for name, verdict in rows:
        if verdict != 'passed':
            print(f'    {verdict}: {name}', file=sys.stderr)
    print(*(sum(v == kind for _, v in rows) for kind in ('passed', 'failed', 'skipped')))


if __name__ == '__main__':
    main()
