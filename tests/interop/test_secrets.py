# SPDX-License-Identifier: MIT
"""T122: nobody but root finds a key: not by tracing, not in /proc, not in a core file, not on the disk. The scan looks for
keys that are known, and first has to find them where they must be: in the memory of the daemon, read by root."""
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

import harness
from harness import PASSWORD, REALM
from test_daemon import NOBODY, as_root, instance, kinit  # noqa: F401

pytestmark = as_root
STRANGER = NOBODY - 1


def known_keys(it):
    """name -> bytes, as an administrator is told them."""
    keys = {'master': (it.root / 'var/lib/sallyport/master.key').read_bytes()}
    for name in ('alice', f'krbtgt/{REALM}'):
        told = json.loads(it.command('account', 'keys', name, '--show-secret', '--json').ok())
        for key in told['keys']:
            keys[f'{name} {key["etype"]}'] = bytes.fromhex(key['key'])
    assert len(keys) > 4 and all(len(k) in (16, 32) and len(set(k)) > 6 for k in keys.values())
    return keys


def found(keys, data):
    return {name for name, key in keys.items() if key in data}


def memory(pid):
    """What can be read of a process, area by area."""
    with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', buffering=0) as mem:
        for line in maps:
            m = re.match(r'([0-9a-f]+)-([0-9a-f]+) r', line)
            if not m or '[v' in line:       # vvar, vsyscall
                continue
            start, end = int(m[1], 16), int(m[2], 16)
            try:
                mem.seek(start)
                yield mem.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue


def scan(pid, keys):
    return set().union(*(found(keys, area) for area in memory(pid)))


def scan_files(top, keys):
    seen = {}
    for file in pathlib.Path(top).rglob('*'):
        if file.is_file() and not file.is_symlink():
            hits = found(keys, file.read_bytes())
            if hits:
                seen[str(file.relative_to(top))] = hits
    return seen


@pytest.fixture
def busy(instance, kinit):      # noqa: F811
    """A daemon of an ordinary user, in whose processes the keys were used."""
    it = instance(uid=NOBODY)
    it.keys = known_keys(it)
    it.start('--workers', '1')
    kinit(it).ok()
    return it


# Run by another uid, or the same: whatever it can read of the processes goes to stdout, one line says what it tried.
PRY = r'''
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("n", ctypes.c_size_t)]
out, tried = sys.stdout.buffer, 0
for pid in map(int, sys.argv[1:]):
    for request in (16, 0x4206):            # PTRACE_ATTACH, PTRACE_SEIZE
        tried += 1
        if libc.ptrace(request, pid, None, None) == 0:
            out.write(b"TRACED\n")
            os.waitpid(pid, 0x40000000) if request == 16 else None
            libc.ptrace(17, pid, None, None)
    areas = [(0x10000, 4096)]
    for name in ("maps", "smaps", "environ", "auxv", "stack", "pagemap"):
        tried += 1
        try:
            data = open(f"/proc/{pid}/{name}", "rb").read(1 << 20)
        except OSError:
            continue
        if data and name != "stack":
            out.write(b"READ " + name.encode() + b"\n" + data)
        if name == "maps":
            areas = [(int(a, 16), int(b, 16) - int(a, 16)) for a, b in
                     (l.split()[0].split("-") for l in data.decode().splitlines() if " r" in l and "[v" not in l)]
    for at, n in areas:
        tried += 1
        buf = ctypes.create_string_buffer(min(n, 1 << 26))
        here, there = Iovec(ctypes.addressof(buf), len(buf)), Iovec(at, len(buf))
        got = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        if got > 0:
            out.write(b"VM\n" + buf.raw[:got])
    try:
        tried += 1
        mem = open(f"/proc/{pid}/mem", "rb", buffering=0)
        for at, n in areas:
            mem.seek(at)
            out.write(b"MEM\n" + mem.read(n))
    except OSError:
        pass
print(f"tried {tried}", file=sys.stderr)
'''


def pry(uid, pids):
    done = subprocess.run([sys.executable, '-c', PRY, *[str(p) for p in pids]], user=uid, group=uid, extra_groups=[],
                          capture_output=True, timeout=60, cwd='/')
    assert re.search(rb'tried \d{2,}', done.stderr), done.stderr
    return done.stdout


def test_root_finds_what_must_be_there(busy):
    """The scanner works: the keeper holds the master key, the worker that and every key it used."""
    assert 'master' in scan(busy.pid, busy.keys)
    worker = scan(busy.workers()[0], busy.keys)
    assert {'master', 'alice 18', f'krbtgt/{REALM} 18'} <= worker, worker


@pytest.mark.parametrize('uid', [NOBODY, STRANGER])
def test_nobody_else_reads_a_process(busy, uid):
    got = pry(uid, [busy.pid, *busy.workers()])
    assert found(busy.keys, got) == set()
    assert got == b'', got[:200]
    assert harness.run(['true']).code == 0 and busy.workers()   # still there, not stopped
    busy.command('status').ok()


def test_prying_works_on_others():
    """The same attempts on a plain process of the same uid bring its secret out."""
    secret = os.urandom(32)
    child = subprocess.Popen([sys.executable, '-c', 'import sys, time; s = sys.stdin.buffer.read(); print(flush=True); time.sleep(60)'],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=[], cwd='/')
    try:
        child.stdin.write(secret)
        child.stdin.close()
        child.stdout.readline()
        got = pry(NOBODY, [child.pid])
        assert b'VM\n' in got and found({'secret': secret}, got)
    finally:
        child.kill()
        child.wait()


def lift(pid):
    """The limit for cores of a process, as high as we may."""
    hard = resource.RLIM_INFINITY
    for limit in (hard, resource.getrlimit(resource.RLIMIT_CORE)[1]):
        try:
            resource.prlimit(pid, resource.RLIMIT_CORE, (limit, limit))
            return limit != 0
        except (PermissionError, ValueError):       # a container's root
            continue
    return False


def cores(*places):
    return [f for place in places for f in pathlib.Path(place).glob('*core*') if f.is_file()]


@pytest.mark.parametrize('signum', [signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT])
def test_no_core(busy, signum, tmp_path):
    """Even when somebody lifts the limit: the processes are not dumpable. Where cores may go to a file, a plain process
    shows that one would have been written."""
    pattern = pathlib.Path('/proc/sys/kernel/core_pattern').read_text().strip()
    for pid in (busy.pid, *busy.workers()):     # what the kernel gives to root is not dumpable
        assert os.stat(f'/proc/{pid}/mem').st_uid == 0 and f'Uid:\t{NOBODY}' in pathlib.Path(f'/proc/{pid}/status').read_text()
    places = {os.readlink(f'/proc/{p}/cwd') for p in (busy.pid, *busy.workers())} | {busy.root, '/tmp', tmp_path}
    before = set(cores(*places))
    worker = busy.workers()[0]
    lift(worker)
    os.kill(worker, signum)
    busy.wait(lambda: busy.workers() and busy.workers() != [worker])
    lift(busy.pid)
    os.kill(busy.pid, signal.SIGSEGV)
    busy.server.process.wait(10)
    assert set(cores(*places)) == before
    plain = subprocess.Popen(['sleep', '60'], cwd=tmp_path)
    may = lift(plain.pid)
    time.sleep(0.2)
    plain.send_signal(signum)
    plain.wait(10)
    if may and not pattern.startswith(('|', '/')):
        assert cores(tmp_path)


def test_nothing_on_disk(busy):
    """The state holds no key in the clear but the master key in its own file; nor do log, records and sockets' directory."""
    busy.command('backup', busy.root / 'backup')
    (busy.root / 'control').write_bytes(b'x' * 1000 + busy.keys['alice 18'])
    assert scan_files(busy.root, busy.keys) == {'control': {'alice 18'}, 'var/lib/sallyport/master.key': {'master'}}
    words = {'password': PASSWORD.encode()}
    assert scan_files(busy.root, words) == {}


def test_swap(busy):
    """Nothing of the processes is in swap; the unit forbids it, and where there is no unit SECURITY.md says what to do."""
    for pid in (busy.pid, *busy.workers()):
        assert re.search(r'VmSwap:\s+0 kB', pathlib.Path(f'/proc/{pid}/status').read_text())
    unit = (harness.TOP / 'dist/systemd/sallyportd.service.in').read_text()
    assert re.search(r'^MemorySwapMax=0$', unit, re.M)
    assert 'swap' in (harness.TOP / 'SECURITY.md').read_text()


def test_passwords_are_forgotten(busy):
    """A password that went through the keeper is not in its memory afterwards, nor in the worker's."""
    word = 'Copper-Meadow-5581-forgotten'
    assert 'alice 18' in busy.keys
    done = busy.command('account', 'passwd', 'alice', '--password-stdin', stdin=word + '\n')
    done.ok()
    time.sleep(0.5)
    for pid in (busy.pid, *busy.workers()):
        assert scan(pid, {'password': word.encode()}) == set(), pid
