#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every file that a page of documentation names must exist: relative links, and paths in code spans. Every event and every field
of a record must be in docs/OPERATIONS.md, and nothing else."""
import argparse
import pathlib
import re
import sys

TOP = 'src tests tools fuzz bench docs man dist include'.split()
SPAN = re.compile(r'`([^`\n]+)`')
LINK = re.compile(r'\[[^\]\n]*\]\(([^)\s]+)\)')
FENCE = re.compile(r'^(```|~~~).*?^\1[^\n]*$', re.M | re.S)
BARE = re.compile(r'(?:\./)?(?:[A-Z]+\.md|LICENSE|meson\.build|meson_options\.txt|\.clang-\w+|\./\w[\w.-]*)$')


def pages(root):
    for page in sorted(root.rglob('*.md')):
        parts = page.relative_to(root).parts
        if not any(p.startswith(('b-', 'build', '.git')) for p in parts[:-1]):
            yield page


def wanted(span):
    """The path that a code span names, None if it names none that lies in this tree."""
    word = re.sub(r'(?::\d+|:\w+|\(\))$', '', span.strip())
    if not re.fullmatch(r'[\w./*?@+-]+', word):
        return None
    if word.split('/')[0] in TOP and '/' in word:
        return word
    return word if BARE.match(word) else None


def there(base, path):
    path = path.rstrip('/')
    return any(base.glob(path)) if re.search(r'[*?]', path) else (base / path).exists()


def missing(root, page):
    text = page.read_text(errors='replace')
    prose = FENCE.sub(lambda m: '\n' * m[0].count('\n'), text)
    for number, line in enumerate(prose.splitlines(), 1):
        for m in SPAN.finditer(line):
            path = wanted(m[1])
            if path and not there(root, path):
                yield f'{page}:{number}: names {path}, which does not exist'
        for m in LINK.finditer(line):
            path = m[1].split('#')[0]
            if path and '://' not in path and not path.startswith('mailto:') and not there(page.parent, path):
                yield f'{page}:{number}: links to {path}, which does not exist'


EVENT = re.compile(r'keeper_say\([^,]+, "[a-z-]+"|\bbegin\([^"()]+"[a-z-]+"|\\"event\\":\\"[a-z-]+|\bevent = [^;},]*')
FIELD = re.compile(r'\\"([a-z_]+)\\":')


def written(root):
    """The events and the fields that the source writes into records."""
    events, fields = set(), set()
    for file in sorted([*root.glob('src/daemon/*.c'), *root.glob('src/kdc/*.c')]):
        text = file.read_text()
        for m in EVENT.finditer(text):
            events |= set(re.findall(r'"([a-z-]+)\b', m[0])) - {'event'}
        if file.name in ('record.c', 'keeper.c', 'sink.c'):
            fields |= set(FIELD.findall(text))
    return events, fields


def told(page):
    """The words in the first column of the tables that begin with `field` and with `event`."""
    tables, words = {}, None
    for line in page.read_text().splitlines():
        cell = line.split('|')[1].strip() if line.startswith('|') else None
        if cell is None:
            words = None
        elif words is None:
            words = tables.setdefault(cell, set())
        else:
            words |= set(re.findall(r'`([a-z_-]+)`', cell))
    return tables.get('event', set()), tables.get('field', set())


def records(root):
    page = root / 'docs/OPERATIONS.md'
    if not page.exists() or not (root / 'src/daemon/record.c').exists():
        return
    for what, code, text in zip(('event', 'field'), written(root), told(page)):
        if what == 'field':
            text |= {'requested', 'session', 'reply'} & code      # inside etypes
        for word in sorted(code - text):
            yield f'{page}: the {what} {word} is missing'
        for word in sorted(text - code):
            yield f'{page}: nothing writes the {what} {word}'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', nargs='?', default=pathlib.Path(__file__).resolve().parent.parent)
    root = pathlib.Path(parser.parse_args().root)
    all_pages = list(pages(root))
    found = [line for page in all_pages for line in missing(root, page)] + list(records(root))
    print('\n'.join(found) or f'docs: {len(all_pages)} pages, every file they name exists, every record is described')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
