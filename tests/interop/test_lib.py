# SPDX-License-Identifier: MIT
"""The library as an embedder gets it: built alone, installed, found by pkg-config, linked by C and C++ programs."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from harness import TOP

MESON = shutil.which('meson', path='/usr/bin:/bin') or 'meson'
CODE_MAX = 300 * 1024  # the goal for initiator and acceptor; a KDC is in it, too
HEADER_ONLY = '#include <sallyport/sallyport.h>\nint main(void) { return sallyport_version()[0] == 0; }\n'
# A client in C++, where structs have no designated members.
CPP = r'''
#include <sallyport/sallyport.h>
#include <cstdio>
static bool draw(void *, void *p, size_t n) { for (size_t i = 0; i < n; i++) static_cast<char *>(p)[i] = char(i); return true; }
int main()
{
    sallyport_options o = {};
    sallyport_error e = SALLYPORT_ERROR_INIT;
    o.size = sizeof o;
    o.random = draw;
    sallyport *lib = sallyport_new(&o, &e);
    sallyport_initiator i = {};
    i.size = sizeof i;
    i.client = "alice@NAS1";
    i.target = "host/nas1";
    i.password = {"secret", 6};
    sallyport_context *x = sallyport_initiator_new(lib, &i, &e);
    sallyport_event ev = {};
    ev.size = sizeof ev;
    ev.kind = SALLYPORT_START;
    ev.wall_us = 1700000000000000;
    sallyport_action act = {};
    act.size = sizeof act;
    sallyport_do what = sallyport_step(x, &ev, &act);
    std::printf("%d %d\n", what == SALLYPORT_SEND, act.token.n > 100);
    sallyport_context_free(x);
    sallyport_free(lib);
}
'''


def run(argv, **more):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=600, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """-Dembedded=true where pkg-config knows three packages, of which one is for tests."""
    top = tmp_path_factory.mktemp('embedded')
    known = top / 'known'
    known.mkdir()
    for name in ('libcrypto', 'libsodium', 'cmocka'):
        directory = run(['pkg-config', '--variable=pcfiledir', name]).strip()
        (known / f'{name}.pc').symlink_to(pathlib.Path(directory) / f'{name}.pc')
    env = dict(os.environ, PKG_CONFIG_LIBDIR=str(known), PKG_CONFIG_PATH='')
    run([MESON, 'setup', top / 'b', TOP, '-Dembedded=true', '-Dwerror=true', '--buildtype=debugoptimized', '--prefix=/usr'], env=env)
    run([MESON, 'compile', '-C', top / 'b', '-j', '2'], env=env)
    return top / 'b'


@pytest.fixture(scope='module')
def staged(built, tmp_path_factory):
    to = tmp_path_factory.mktemp('staged')
    run([MESON, 'install', '-C', built, '--no-rebuild', '--quiet'], env=dict(os.environ, DESTDIR=str(to)))
    return to


def library(staged):
    found, = [p for p in staged.rglob('libsallyport.so.0.*') if not p.is_symlink()]
    return found


def flags(staged):
    pc, = staged.rglob('sallyport.pc')
    env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(staged))
    return run(['pkg-config', '--cflags', '--libs', 'sallyport'], env=env).split()


def works(staged, program):
    return run([program], cwd='/', env={'LD_LIBRARY_PATH': str(library(staged).parent)})


def test_it_builds_and_passes_alone(built):
    targets = json.loads(run([MESON, 'introspect', '--targets', built]))
    names = {t['name'] for t in targets}
    assert {'sallyport', 'test-lib', 'embed'} <= names
    assert not {t['name'] for t in targets if t['type'] == 'executable'} - {'test-lib', 'embed'}
    run([MESON, 'test', '-C', built, '--no-rebuild', 'lib', 'embed'])


def test_what_is_installed(staged):
    there = {str(p.relative_to(staged)) for p in staged.rglob('*') if not p.is_dir()}
    assert [p for p in there if p.startswith('usr/include/')] == ['usr/include/sallyport/sallyport.h']
    assert not [p for p in there if re.search(r'/s?bin/|systemd|sysusers', p)], there
    assert [pathlib.Path(p).name for p in there if p.endswith('.a')] == ['libsallyport.a']
    assert 'usr/share/man/man3/libsallyport.3' in there
    run(['mandoc', '-T', 'lint', '-W', 'warning', staged / 'usr/share/man/man3/libsallyport.3'])


@pytest.mark.parametrize('compiler', ['gcc', 'clang'])
@pytest.mark.parametrize('standard', [[], ['-std=c11', '-D_DEFAULT_SOURCE']])
def test_the_example(staged, tmp_path, compiler, standard):
    example, = staged.rglob('embed.c')
    run([compiler, *standard, '-Wall', '-Wextra', '-Werror', example, *flags(staged), '-o', tmp_path / 'embed'])
    said = works(staged, tmp_path / 'embed')
    assert 'alice@NAS1' in said and 'host/nas1@NAS1' in said
    code = [line for line in example.read_text().splitlines() if line.strip() and not line.lstrip().startswith(('/*', ' *'))]
    assert len(code) <= 60


@pytest.mark.parametrize('compiler, standard', [('gcc', 'c11'), ('clang', 'c11'), ('gcc', 'c17'), ('g++', 'c++17'),
                                                ('clang++', 'c++17')])
def test_the_header_alone(staged, tmp_path, compiler, standard):
    source = tmp_path / ('t.cc' if '++' in compiler else 't.c')
    source.write_text(HEADER_ONLY)
    run([compiler, f'-std={standard}', '-pedantic', '-Wall', '-Wextra', '-Wconversion', '-Werror', source, *flags(staged),
         '-o', tmp_path / 't'])
    works(staged, tmp_path / 't')


@pytest.mark.parametrize('compiler', ['g++', 'clang++'])
def test_cplusplus(staged, tmp_path, compiler):
    (tmp_path / 't.cc').write_text(CPP)
    run([compiler, '-std=c++17', '-pedantic', '-Wall', '-Wextra', '-Werror', tmp_path / 't.cc', *flags(staged), '-o',
         tmp_path / 't'])
    assert works(staged, tmp_path / 't') == '1 1\n'


def declared():
    text = (TOP / 'include/sallyport/sallyport.h').read_text()
    text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
    return set(re.findall(r'\b(sallyport_[a-z_]+)\(', text))


def test_exports(staged):
    """Every declared function, no other, all of one version; and no library that nobody asked for."""
    names = [line.split()[-1] for line in run(['nm', '-D', '--defined-only', library(staged)]).splitlines()]
    assert {n for n in names if n != 'SALLYPORT_0.1'} == {n + '@@SALLYPORT_0.1' for n in declared()}
    dynamic = run(['readelf', '-d', library(staged)])
    assert re.findall(r'SONAME.*\[(.*)\]', dynamic) == ['libsallyport.so.0']
    needed = {n.split('.so')[0] for n in re.findall(r'NEEDED.*\[(.*)\]', dynamic)}
    assert needed == {'libcrypto', 'libsodium', 'libc'}
    assert 'RPATH' not in dynamic and 'RUNPATH' not in dynamic


def test_it_cannot_reach_the_world(staged):
    """No file, socket, clock, thread, environment or output among what it asks of libc."""
    wanted = {line.split()[-1].split('@')[0] for line in run(['nm', '-D', '--undefined-only', library(staged)]).splitlines()}
    world = {'open', 'open64', 'fopen', 'fopen64', 'socket', 'connect', 'send', 'recv', 'read', 'write', 'time', 'clock_gettime',
             'gettimeofday', 'getrandom', 'getentropy', 'getenv', 'secure_getenv', 'pthread_create', 'printf', 'puts', 'exit',
             'fork', 'randombytes_buf'}
    assert not wanted & world


def test_size(staged):
    text = int(run(['size', library(staged)]).splitlines()[1].split()[0])
    assert 100 * 1024 < text < CODE_MAX, text


def test_every_function_is_described():
    """In the header each declaration, or the group it stands in, has a comment; the manual page names the loop's verbs."""
    lines = (TOP / 'include/sallyport/sallyport.h').read_text().splitlines()
    for n, line in enumerate(lines):
        if line.startswith(('SALLYPORT_API ', 'SALLYPORT_MUST ')):
            above = n - 1
            while lines[above].strip() and not lines[above].rstrip().endswith('*/'):
                above -= 1
            assert lines[above].strip() or '/*' in line, line
