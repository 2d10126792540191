#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Which room may include what. Needs no compiler; prints file:line for every offence and fails if there is one."""
import argparse
import pathlib
import re
import sys

# Room -> rooms it stands on. A longer key (a driver behind a port) wins over the room that contains it.
ROOMS = {
    'base': '',
    'bytes': 'base',
    'crypto': 'base bytes',
    'crypto/openssl': 'base bytes crypto',
    'crypto/null': 'base bytes crypto',
    'krb': 'base bytes crypto',
    'store': 'base bytes crypto',
    'store/lmdb': 'base bytes crypto store',
    'ntlm': 'base bytes',
    'smb': 'base bytes crypto',
    'kdc': 'base bytes crypto krb store',
    'client': 'base bytes crypto krb',
    'gss': 'base bytes crypto krb client',
    'lib': 'base bytes crypto krb store kdc client gss',
    'courier': 'base bytes krb',
    'net': 'base bytes',
    'host': 'base bytes crypto krb client gss courier net',
    'admin': 'base bytes crypto crypto/openssl krb store store/lmdb kdc net',
    'plugin': 'base bytes crypto krb gss client courier net host',
    'daemon': 'base bytes crypto crypto/openssl krb store store/lmdb ntlm smb kdc client gss courier net host admin',
    'cli': 'base bytes crypto crypto/openssl krb store store/lmdb ntlm smb kdc client gss courier net host admin',
}
ENGINES = {'base', 'bytes', 'crypto', 'krb', 'store', 'ntlm', 'smb', 'kdc', 'client', 'gss', 'courier', 'lib'}

# Engines never wait, never allocate, never read a clock: these headers cannot do any of that.
PURE = set('stddef.h stdint.h stdbool.h stdarg.h stdalign.h stdatomic.h stdnoreturn.h limits.h inttypes.h '
           'string.h strings.h assert.h'.split())
PURE_IN = {'base': PURE | {'stdio.h', 'stdlib.h'},      # vsnprintf for error texts, abort for assertions
           'lib': PURE | {'stdlib.h'}}                  # malloc, where the caller gives no allocator

# A dependency stays behind the port of its room.
BEHIND = [
    (re.compile(r'openssl/'), {'crypto/openssl', 'net', 'host'}),
    (re.compile(r'sodium'), {'crypto/openssl'}),
    (re.compile(r'lmdb\.h'), {'store/lmdb'}),
    (re.compile(r'event2?/|event2?\.h|ares'), {'net'}),
    (re.compile(r'ini\.h|cjson/|seccomp\.h'), {'net', 'host', 'admin', 'daemon', 'cli'}),
    (re.compile(r'krb5|gssapi|profile\.h'), {'plugin'}),
]
INCLUDE = re.compile(r'\s*#\s*include\s*(["<])([^">]+)[">]')


def room_of(path):
    """The longest room that contains this path, '' if none does."""
    parts = path.split('/')
    for n in (2, 1):
        if len(parts) > n and '/'.join(parts[:n]) in ROOMS:
            return '/'.join(parts[:n])
    return ''


def quoted(room, name):
    if name.startswith('sallyport/'):
        return None
    target = room_of(name)
    if not target:
        return f'"{name}" does not begin with a room'
    if target != room and target not in ROOMS[room].split():
        return f'{room} may not use {target} ("{name}")'
    return None


def angled(room, name):
    for pattern, rooms in BEHIND:
        if pattern.match(name) and room not in rooms:
            return f'<{name}> belongs behind {" or ".join(sorted(rooms))}'
    if room in ENGINES and name not in PURE_IN.get(room, PURE):
        return f'<{name}> is refused in {room}: engines do not wait, allocate or look at the world'
    return None


def offences(src):
    for file in sorted(src.rglob('*.[ch]')):
        path = file.relative_to(src).as_posix()
        room = room_of(path)
        if not room:
            yield f'{file}:1: lies in no known room'
            continue
        for number, line in enumerate(file.read_text(errors='replace').splitlines(), 1):
            m = INCLUDE.match(line)
            why = m and (quoted if m[1] == '"' else angled)(room, m[2])
            if why:
                yield f'{file}:{number}: {why}'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', nargs='?', default=pathlib.Path(__file__).resolve().parent.parent / 'src')
    src = pathlib.Path(parser.parse_args().src)
    if not any(src.rglob('*.[ch]')):
        sys.exit(f'{src}: no sources here')
    found = list(offences(src))
    print('\n'.join(found) or f'layers: {sum(1 for _ in src.rglob("*.[ch]"))} files, every include points down')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
