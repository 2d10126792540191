# SPDX-License-Identifier: MIT
"""A staged install: what a packager gets."""
import json
import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

from harness import BUILD

MESON = shutil.which('meson', path='/usr/bin:/bin') or 'meson'


@pytest.fixture(scope='module')
def staged(tmp_path_factory):
    to = tmp_path_factory.mktemp('staged')
    done = subprocess.run([MESON, 'install', '-C', str(BUILD), '--no-rebuild', '--quiet'], capture_output=True, text=True,
                          timeout=120, env=dict(os.environ, DESTDIR=str(to)))
    assert done.returncode == 0, done.stdout + done.stderr
    return to


@pytest.fixture(scope='module')
def planned():
    text = subprocess.run([MESON, 'introspect', '--installed', str(BUILD)], capture_output=True, text=True, timeout=60,
                          check=True).stdout
    return [pathlib.Path(p) for p in json.loads(text).values()]


def find(staged, name):
    found = [p for p in staged.rglob(name) if p.is_file() or p.is_symlink()]
    assert len(found) == 1, f'{name}: {found}'
    return found[0]


def test_all_that_was_planned_is_there(staged, planned):
    for path in planned:
        there = staged / path.relative_to('/')
        assert there.exists(), path
    staged_files = {p for p in staged.rglob('*') if p.is_file()}
    assert staged_files, 'nothing was installed'


@pytest.mark.parametrize('name, directory', [
    ('sallyport', 'bin'),
    ('sallyport.1', 'man1'),
    ('sallyport.conf.5', 'man5'),
    ('sallyportd.8', 'man8'),
    ('sallyportd.service', 'system'),
    ('_sallyport', 'site-functions'),
    ('sallyport_locate.so', 'libkrb5'),
    ('sallyport_locate.7', 'man7'),
])
def test_the_names_that_people_rely_on(staged, name, directory):
    assert [p for p in staged.rglob(name) if p.parent.name == directory], name


def test_the_rest_of_an_installation(staged):
    names = {p.name for p in staged.rglob('*') if p.is_file()}
    assert 'sallyportd' in names
    assert [p for p in staged.rglob('sallyport') if p.parts[-3:] == ('bash-completion', 'completions', 'sallyport')]
    assert [p for p in staged.rglob('*.conf') if p.parent.name == 'sysusers.d'], names
    assert [p for p in staged.rglob('sallyport.conf*') if p.parent.name != 'man5' and p.parent.name != 'sysusers.d'], \
        'no example configuration'


@pytest.mark.parametrize('page', ['sallyport.1', 'sallyport.conf.5', 'sallyportd.8', 'sallyport_locate.7'])
def test_manual_pages_are_clean(staged, page):
    done = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', str(find(staged, page))], capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 0 and done.stdout == '', done.stdout


@pytest.mark.parametrize('name', ['sallyport', 'sallyportd'])
def test_programs_start_and_lean_on_no_private_path(staged, name):
    program, = [p for p in staged.rglob(name) if p.is_file() and p.parent.name in ('bin', 'sbin') and
                p.read_bytes()[:4] == b'\x7fELF']
    assert program.stat().st_mode & 0o111 == 0o111
    done = subprocess.run([str(program), '--help'], capture_output=True, text=True, timeout=30, cwd='/', env={})
    assert done.returncode == 0 and done.stdout.startswith(f'usage: {name}'), done.stdout + done.stderr
    dynamic = subprocess.run(['readelf', '-d', str(program)], capture_output=True, text=True, timeout=30, check=True).stdout
    assert 'RPATH' not in dynamic and 'RUNPATH' not in dynamic


def test_the_courier_is_for_the_keeper_alone(staged):
    program, = staged.rglob('sallyport-courier')
    assert program.parent.name == 'sallyport' and program.parent.parent.name == 'libexec'
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and done.stderr.startswith('sallyport-courier: sallyportd starts it'), done


def test_an_installed_command_works(staged, tmp_path):
    program, = [p for p in staged.rglob('sallyport') if p.parent.name == 'bin']
    root = ['--root', str(tmp_path / 'r')]
    for argv in (['init', '--realm', 'STAGED'], ['status'], ['config', 'check']):
        subprocess.run([str(program), *argv, *root], check=True, capture_output=True, timeout=60)


def test_the_example_configuration_is_a_good_one(staged, tmp_path):
    program, = [p for p in staged.rglob('sallyport') if p.parent.name == 'bin']
    example, = [p for p in staged.rglob('sallyport.conf*') if p.parent.name not in ('man5', 'sysusers.d', 'tmpfiles.d')]
    to = tmp_path / 'r/etc/sallyport'
    to.mkdir(parents=True)
    shutil.copy(example, to / 'sallyport.conf')
    done = subprocess.run([str(program), 'config', 'check', '--root', str(tmp_path / 'r')], capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('how', [[], ['--static']])
def test_a_program_is_built_with_what_pkg_config_says(staged, tmp_path, how):
    """dist/examples/embed.c with the shared library, and with all of it, libc too, in one file."""
    pc = find(staged, 'sallyport.pc')
    env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(staged))
    said = subprocess.run(['pkg-config', '--cflags', '--libs', *how, 'sallyport'], capture_output=True, text=True, timeout=30, check=True,
                          env=env).stdout
    flags = ['-static'] if how else [f'-Wl,-rpath,{pc.parent.parent}']
    built = subprocess.run(['cc', *flags, '-o', str(tmp_path / 'embed'), str(find(staged, 'embed.c')), *shlex.split(said)],
                           capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr[-3000:]
    dynamic = subprocess.run(['readelf', '-d', str(tmp_path / 'embed')], capture_output=True, text=True, timeout=30, check=True).stdout
    assert ('libsallyport.so' in dynamic) == (not how), dynamic
    subprocess.run([str(tmp_path / 'embed')], check=True, capture_output=True, timeout=60)


def test_the_archive_lets_out_what_the_shared_library_does(staged):
    def names(*argv):
        out = subprocess.run(['nm', '--defined-only', *argv], capture_output=True, text=True, timeout=60, check=True).stdout
        return {line.split()[2].split('@')[0] for line in out.splitlines() if len(line.split()) == 3 and line.split()[1].isupper()}

    library, = [p for p in staged.rglob('libsallyport.so*') if not p.is_symlink()]
    assert names('-g', str(find(staged, 'libsallyport.a'))) == names('-D', str(library)) - {'SALLYPORT_0.1'}
