# SPDX-License-Identifier: MIT
"""The daemon: its doors, its processes, what it survives. Most tests speak to it by hand; logins are MIT's kinit."""
import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

import harness
from harness import HOST, OTHER_PASSWORD, PASSWORD, REALM, SALLYPORT, SALLYPORTD, Server, free_port, run

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason='needs root: mounts, other uids')


# ---- a request by hand: enough of DER for one AS-REQ and for the code of its answer ----

def der(tag, content):
    n = len(content)
    length = bytes([n]) if n < 128 else bytes([0x81, n]) if n < 256 else bytes([0x82]) + struct.pack('>H', n)
    return bytes([tag]) + length + content


def integer(v):
    return der(2, v.to_bytes(v.bit_length() // 8 + 1, 'big'))


def name(kind, *parts):
    return der(0x30, der(0xa0, integer(kind)) + der(0xa1, der(0x30, b''.join(der(0x1b, p) for p in parts))))


def as_req(client=b'alice', nonce=1, padding=b'', proof=b''):
    """padding makes the request longer: an unknown padata of that many bytes; proof: the ciphertext of a timestamp."""
    body = der(0x30, der(0xa0, der(3, bytes([0, 0x50, 0, 0, 0x10]))) + der(0xa1, name(1, client)) +
               der(0xa2, der(0x1b, REALM.encode())) + der(0xa3, name(2, b'krbtgt', REALM.encode())) +
               der(0xa5, der(0x18, b'20370101000000Z')) + der(0xa7, integer(nonce)) + der(0xa8, der(0x30, integer(18))))
    kind, value = 99999, padding
    if proof:
        kind, value = 2, der(0x30, der(0xa0, integer(18)) + der(0xa2, der(4, proof)))
    padata = der(0xa3, der(0x30, der(0x30, der(0xa1, integer(kind)) + der(0xa2, der(4, value))))) if value else b''
    return der(0x6a, der(0x30, der(0xa1, integer(5)) + der(0xa2, integer(10)) + padata + der(0xa4, body)))


def contents(b):
    """(tag, content) of each element."""
    at = 0
    while at < len(b):
        tag, n, at = b[at], b[at + 1], at + 2
        if n & 0x80:
            size, n = n & 0x7f, int.from_bytes(b[at:at + (n & 0x7f)], 'big')
            at += size
        yield tag, b[at:at + n]
        at += n


def error_code(reply):
    assert reply and reply[0] == 0x7e, f'no KRB-ERROR: {reply[:16].hex()}'
    (_, whole), = contents(reply)
    (_, sequence), = contents(whole)
    (_, code), = contents(dict(contents(sequence))[0xa6])
    return int.from_bytes(code, 'big')


def frame(message):
    return struct.pack('>I', len(message)) + message


def receive(s, n):
    got = b''
    while len(got) < n:
        more = s.recv(n - len(got))
        if not more:
            break
        got += more
    return got


def receive_frame(s):
    head = receive(s, 4)
    return receive(s, struct.unpack('>I', head)[0]) if len(head) == 4 else b''


def connect(to, timeout=10, source=None):
    if isinstance(to, pathlib.Path):
        s = socket.socket(socket.AF_UNIX)
        to = str(to)
    else:
        s = socket.socket(socket.AF_INET6 if ':' in to[0] else socket.AF_INET)
        if source:
            s.bind((source, 0))
    s.settimeout(timeout)
    s.connect(to)
    return s


def ask_stream(to, message):
    with connect(to) as s:
        s.sendall(frame(message))
        return receive_frame(s)


def ask_udp(to, message, tries=1):
    with socket.socket(socket.AF_INET6 if ':' in to[0] else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        for _ in range(tries):
            s.sendto(message, to)
            with contextlib.suppress(socket.timeout):
                return s.recv(65536)
    return b''


# ---- an instance of a test's own ----

class Instance:
    def __init__(self, root, uid=None):
        self.root, self.uid = pathlib.Path(root), uid
        self.port, self.kpasswd_port = free_port(), free_port()
        self.run = self.root / 'run/sallyport'
        self.sock = self.run / 'kdc.sock'
        self.log = self.root / 'sallyportd.log'
        self.root.mkdir(parents=True, exist_ok=True)
        self.command('init', '--realm', REALM).ok()
        self.command('account', 'add', 'alice', '--password-stdin', stdin=PASSWORD + '\n').ok()
        self.server = None

    def command(self, *argv, stdin=''):
        return run([SALLYPORT, *argv, '--root', self.root], stdin=stdin)

    def configure(self, text, file='test.conf'):
        d = self.root / 'etc/sallyport/conf.d'
        d.mkdir(parents=True, exist_ok=True)
        (d / file).write_text(text)

    def argv(self, *more):
        argv = [SALLYPORTD, '--root', self.root, '--foreground', '--listen', f'127.0.0.1:{self.port}',
                '--listen-kpasswd', f'127.0.0.1:{self.kpasswd_port}', *more]
        return argv

    def start(self, *more, argv=None, env=None, port=None):
        argv = argv or self.argv(*more)
        if self.uid is not None:
            subprocess.run(['chown', '-R', str(self.uid), self.root], check=True)
            argv = ['setpriv', '--reuid', str(self.uid), '--regid', str(self.uid), '--clear-groups', *argv]
        self.server = Server(argv, self.log, port or self.port, env=dict(os.environ, **(env or {})))
        self.wait(lambda: 'ready, realm' in self.log.read_text())
        return self

    @property
    def udp(self):
        return ('127.0.0.1', self.port)

    @property
    def pid(self):
        return self.server.process.pid

    def workers(self):
        done = subprocess.run(['pgrep', '-x', '-P', str(self.pid), 'sallyport-kdc'], capture_output=True, text=True)
        return [int(p) for p in done.stdout.split()]

    def records(self, event=None):
        file = self.root / 'var/log/sallyport/records.jsonl'
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [r for r in lines if event in (None, r['event'])]

    def wait(self, condition, patience=10):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.02)
        pytest.fail(f'waited {patience} s in vain: {self.log.read_text()[-2000:]}')

    def said(self):
        return self.log.read_text()

    def stop(self):
        return self.server.stop()


@pytest.fixture
def instance(home):
    made = []

    def make(uid=None, root=None):
        made.append(Instance(root or home / f'root{len(made)}', uid))
        return made[-1]
    yield make
    for each in made:
        if each.server:
            each.stop()


@pytest.fixture
def kdc(instance):
    return instance().start('--workers', '2')


@pytest.fixture
def kinit(home):
    """kinit(instance, user, password) of MIT."""
    harness.need_peer('mit')

    def go(it, user='alice', password=PASSWORD, script=None):
        conf = home / f'krb5-{it.port}.conf'
        fresh = home / f'krb5-{threading.get_ident()}.new'
        fresh.write_text(f'[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n'
                         f' dns_canonicalize_hostname = false\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{it.port}\n'
                         f'  kpasswd_server = 127.0.0.1:{it.kpasswd_port}\n }}\n')
        fresh.rename(conf)      # whole, for others may be reading it
        env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(conf), KRB5CCNAME=f'FILE:{home}/cc')
        argv = ['sh', '-c', script] if script else ['kinit', user]
        return run(harness.peer('mit', *argv), stdin=password + '\n', env=env)
    return go


# ---- doors ----

def test_every_door_answers(instance):
    it = instance()
    it.start('--listen', f'[::1]:{it.port}')
    for to in (it.udp, ('::1', it.port)):
        assert error_code(ask_udp(to, as_req())) == 25
        assert error_code(ask_stream(to, as_req())) == 25
    assert error_code(ask_stream(it.sock, as_req())) == 25
    it.wait(lambda: len(it.records('as')) == 5)
    seen = {(r['transport'], r['source']) for r in it.records('as')}
    assert seen == {('udp', '127.0.0.1'), ('tcp', '127.0.0.1'), ('udp', '::1'), ('tcp', '::1'),
                    ('unix', f'uid {os.geteuid()}')}


@as_root
def test_unix_door_knows_the_uid(kdc):
    script = f'''
import socket
s = socket.socket(socket.AF_UNIX)
s.connect({str(kdc.sock)!r})
s.sendall({frame(as_req())!r})
assert s.recv(5)[4:] == b"\\x7e"
'''
    subprocess.run([sys.executable, '-c', script], user=NOBODY, group=NOBODY, check=True, timeout=20)
    kdc.wait(lambda: kdc.records('as'))
    assert kdc.records('as')[0]['source'] == f'uid {NOBODY}'


GUESS = '''
import socket, struct, sys
port, stream, messages = int(sys.argv[1]), sys.argv[2] == "tcp", sys.argv[3:]
s = socket.socket(type=socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
s.settimeout(10)
s.connect(("127.0.0.1", port))
for m in map(bytes.fromhex, messages):
    s.send(struct.pack(">I", len(m)) * stream + m)
    got = s.recv(65536)
    while stream and len(got) < 4 + struct.unpack(">I", got[:4])[0]:
        got += s.recv(65536)
    assert got[4 * stream] == 0x7e
'''


def guess(it, uid, transport, client, count, nonce):
    """Wrong timestamps, as somebody on this machine sends them; the texts of their records."""
    messages = [as_req(client, nonce + i, proof=bytes(56)) for i in range(count)]

    def refused():
        return [r for r in it.records('as') if r['code'] == 24 and r['client'] == f'{client.decode()}@{REALM}']
    had = len(refused())
    subprocess.run([sys.executable, '-c', GUESS, str(it.port), transport, *[m.hex() for m in messages]], user=uid,
                   group=uid, check=True, timeout=30)
    it.wait(lambda: len(refused()) == had + count)
    made = refused()[had:]
    assert {(r['source'], r['transport']) for r in made} == {(f'uid {uid}', transport)}
    return [r['text'] for r in made]


@as_root
@pytest.mark.parametrize('transport', ['udp', 'tcp'])
def test_loopback_sources_are_uids(instance, kinit, transport):
    it = instance()
    it.configure('[log]\nflood = 1000\n')
    it.start('--workers', '2')
    kinit(it).ok()              # uid 0 is familiar with alice from here on
    it.wait(lambda: [r for r in it.records('as') if r['code'] == 0])
    assert [r['source'] for r in it.records('as') if r['preauth'] != 'none'] == ['uid 0']
    spent = guess(it, 0, transport, b'bob', 45, 1000)
    # Records of two workers come in whatever order; what is spent stays spent.
    assert {'not verified' in text for text in spent} == {True, False} and any('no such client' in text for text in spent), spent
    assert 'not verified' in guess(it, 0, transport, b'carol', 1, 2000)[0]
    kinit(it).ok()              # its own budget, which the guesses for bob did not touch
    # Another uid has the whole budget of a source, and spends it alone.
    spent = guess(it, NOBODY, transport, b'bob', 45, 3000)
    assert sum('not verified' not in text for text in spent) == 40, spent
    assert 'not verified' in guess(it, NOBODY, transport, b'alice', 1, 4000)[0]
    assert 'wrong password' in guess(it, 64078, transport, b'alice', 1, 5000)[0]
    kinit(it).ok()


@as_root
def test_a_socket_that_was_closed_is_not_roots(instance):
    """The kernel shows sockets without an owner with uid 0; who closed before the answer is nobody known."""
    it = instance()
    it.start('--workers', '1')
    worker = it.workers()[0]
    script = f'''
import os, socket, struct
message = {as_req(proof=bytes(56))!r}
udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
tcp.connect({it.udp!r})
tcp.sendall(struct.pack(">I", len(message)) + message)
udp.sendto(message[:-2] + message[-2:], {it.udp!r})
'''
    os.kill(worker, signal.SIGSTOP)
    subprocess.run([sys.executable, '-c', script], user=NOBODY, group=NOBODY, check=True, timeout=20)
    os.kill(worker, signal.SIGCONT)
    it.wait(lambda: len(it.records('as')) == 2)
    assert [r['source'] for r in it.records('as')] == ['127.0.0.1'] * 2


@as_root
def test_the_kernel_is_asked_once_in_a_while(instance, home):
    """Who asks is looked up when a password is tried: by datagrams from one socket, ten times a second at most."""
    it = instance()
    it.configure('[log]\nflood = 100000\n')
    it.start('--workers', '1')
    out = home / 'calls'
    tracer = subprocess.Popen(['strace', '-o', out, '-e', 'trace=sendto', '-p', str(it.workers()[0])], stderr=subprocess.PIPE, text=True)
    assert 'attached' in tracer.stderr.readline()
    messages = [as_req(b'alice', 1000 + i, proof=bytes(56)) for i in range(200)]
    began = time.monotonic()
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.connect(it.udp)
        for m in messages:
            s.send(m)
            assert s.recv(65536)
    took = time.monotonic() - began
    tracer.send_signal(signal.SIGINT)
    tracer.communicate(timeout=20)
    asked = out.read_text().count('sendto(')
    # The first question may have to be put the other way round as well.
    assert 1 <= asked <= 2 + took / 0.1, (asked, took)
    it.wait(lambda: len(it.records('as')) == len(messages))
    assert {r['source'] for r in it.records('as')} == {'uid 0'}


@as_root
def test_a_port_that_passes_to_another_uid(instance):
    """Known for a tenth of a second, and asked again after it."""
    it = instance()
    it.start('--workers', '1')
    port = free_port()
    script = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.settimeout(10)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.sendto(bytes.fromhex(sys.argv[3]), ("127.0.0.1", int(sys.argv[2])))
assert s.recv(65536)
"""
    for uid in (NOBODY, 64078):
        subprocess.run([sys.executable, '-c', script, str(port), str(it.port), as_req(b'alice', uid, proof=bytes(56)).hex()],
                       user=uid, group=uid, check=True, timeout=20)
        time.sleep(0.15)
    it.wait(lambda: len(it.records('as')) == 2)
    assert [r['source'] for r in it.records('as')] == [f'uid {NOBODY}', 'uid 64078']


def test_many_requests_on_one_connection(kdc):
    with connect(kdc.udp) as s:
        s.sendall(frame(as_req(nonce=1)) + frame(as_req(nonce=2)) + frame(as_req(nonce=3))[:20])
        assert error_code(receive_frame(s)) == 25
        assert error_code(receive_frame(s)) == 25
        s.sendall(frame(as_req(nonce=3))[20:])
        assert error_code(receive_frame(s)) == 25
        for byte in frame(as_req(nonce=4)):
            s.send(bytes([byte]))
        s.shutdown(socket.SHUT_WR)
        assert error_code(receive_frame(s)) == 25
        assert s.recv(1) == b''


def test_large_requests_up_to_the_limit(kdc):
    small = len(as_req(padding=b'x' * 1000)) - 1000
    largest = as_req(padding=b'x' * (65535 - small))
    assert 65530 < len(largest) <= 65536
    assert error_code(ask_stream(kdc.udp, largest)) == 25


@pytest.mark.parametrize('length', [0, 1, 65537, 0x80000000, 0x80000005, 0xffffffff])
def test_t017_wrong_lengths(kdc, length):
    for to in (kdc.udp, kdc.sock):
        with connect(to) as s:
            s.sendall(struct.pack('>I', length) + b'x' * 100)
            assert error_code(receive_frame(s)) == 61
            assert s.recv(1) == b''
    kdc.wait(lambda: len(kdc.records('malformed')) == 2)
    assert {r['code'] for r in kdc.records('malformed')} == {61}
    assert error_code(ask_stream(kdc.udp, as_req())) == 25


def test_t018_a_byte_a_second(kdc):
    request = frame(as_req())
    with connect(kdc.udp, timeout=1) as s:
        began, closed = time.monotonic(), None
        for byte in request:
            try:
                s.send(bytes([byte]))
                if s.recv(1) == b'':
                    closed = time.monotonic() - began
            except socket.timeout:
                continue
            except OSError:
                closed = time.monotonic() - began
            if closed:
                break
    assert closed and 4 <= closed <= 7, closed


def rss_kib(pids):
    return sum(int(re.search(r'VmRSS:\s+(\d+)', pathlib.Path(f'/proc/{p}/status').read_text())[1]) for p in pids)


def test_t019_idle_connections(instance):
    it = instance()
    it.configure('[kdc]\ntcp-idle = 60\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10000, hard - 500)
    try:
        it.start('--workers', '2')
        ask_stream(it.udp, as_req())
        before, idle = rss_kib(it.workers()), []
        for i in range(count):
            idle.append(connect(it.udp, source=f'127.0.1.{i % 50 + 1}'))
        for i, s in enumerate(idle[:2000]):     # some have begun and stopped
            s.sendall(frame(as_req())[:1 + i % 100])
        slowest = 0
        for i in range(300):
            began = time.monotonic()
            assert error_code(ask_stream(it.udp, as_req(nonce=i + 2))) == 25
            assert error_code(ask_udp(it.udp, as_req(nonce=i + 2))) == 25
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1, slowest
        assert rss_kib(it.workers()) - before < 64 * 1024
        idle[-1].sendall(frame(as_req()))       # none was thrown out: there was room for all
        assert error_code(receive_frame(idle[-1])) == 25
        for s in idle:
            s.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize('workers', ['1', '3'])
def test_too_many_connections_cost_the_oldest(instance, workers):
    it = instance()
    it.configure('[kdc]\ntcp-max = 20\n')
    it.start('--workers', workers)
    idle = []
    for _ in range(20):
        idle.append(connect(it.udp))
        time.sleep(0.01)        # accepted before the next one comes: else which is oldest is up to the workers
    for i in range(3):
        late = connect(it.udp)
        late.sendall(frame(as_req(nonce=i + 1)))
        assert error_code(receive_frame(late)) == 25
        assert idle[i].recv(1) == b''         # the oldest of all workers' connections, each time
        idle.append(late)
    for i, s in enumerate(idle[3:]):
        s.sendall(frame(as_req(nonce=i + 10)))
        assert error_code(receive_frame(s)) == 25


# Loopback is everybody's and has no such limit; neither has the console. A uid has one.
MANY_OF_ONE_UID = '''
import socket, sys, time
limit, more = int(sys.argv[2]), int(sys.argv[3])
many = []
for i in range(limit + more):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.settimeout(3)
    many.append(s)
    if i >= limit - 1:
        time.sleep(0.05)
request = bytes.fromhex(sys.argv[4])
many[-1].sendall(request)
assert many[-1].recv(5)[4:] == b"\\x7e"

def gone(s):
    s.settimeout(0.2)
    try:
        return s.recv(1) == b""
    except socket.timeout:
        return False
over = [i for i, s in enumerate(many[:-1]) if gone(s)]
assert len(over) == more, over
for i, s in enumerate(many[:-1]):
    if i not in over:
        s.settimeout(3)
        s.sendall(request)
        assert s.recv(5)[4:] == b"\\x7e"
'''


def many_argv(limit, more, then=''):        # run where the socket is: a UNIX path holds 107 bytes
    return [sys.executable, '-c', MANY_OF_ONE_UID + then, 'kdc.sock', str(limit), str(more), frame(as_req()).hex()]


def many_of_one_uid(it, limit, more):
    subprocess.run(many_argv(limit, more), cwd=it.run, user=NOBODY, group=NOBODY, check=True, timeout=30)


@as_root
@pytest.mark.parametrize('workers', ['1', '3'])
def test_one_source_cannot_take_all_connections(instance, workers):
    it = instance()
    it.configure('[kdc]\ntcp-per-source = 5\n')
    it.start('--workers', workers)
    many_of_one_uid(it, 5, 3)
    many_of_one_uid(it, 5, 1)           # what was closed counts no more


@as_root
def test_a_killed_worker_holds_no_connections(instance):
    it = instance()
    it.configure('[kdc]\ntcp-per-source = 5\ntcp-max = 12\n')
    it.start('--workers', '2')
    for i in range(3):
        idle = [connect(it.udp) for _ in range(8)]
        holders = subprocess.Popen(many_argv(5, 0, 'print(); sys.stdout.flush(); time.sleep(60)'), cwd=it.run,
                                   user=NOBODY, group=NOBODY, stdout=subprocess.PIPE)
        assert holders.stdout.read(1) == b'\n'
        for pid in it.workers():
            os.kill(pid, signal.SIGKILL)
        it.wait(lambda: len(it.records('worker-restart')) == 2 * (i + 1) and len(it.workers()) == 2)
        holders.kill()
        holders.wait()
        for s in idle:
            s.close()
    many_of_one_uid(it, 5, 0)
    many_of_one_uid(it, 5, 2)


def test_answers_are_not_answered(kdc):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        reply = ask_udp(kdc.udp, as_req())
        for message in (reply, b'', b'\x6b' + reply[1:]):
            s.sendto(message, kdc.udp)
        with pytest.raises(socket.timeout):
            s.recv(1)
    assert error_code(ask_udp(kdc.udp, as_req())) == 25


def test_t024_a_reply_too_large_for_udp(instance, kinit):
    it = instance()
    it.configure('[kdc]\nudp-reply-max = 512\n')
    it.start()
    kinit(it).ok()
    it.wait(lambda: [r for r in it.records('as') if r['transport'] == 'tcp' and r['code'] == 0])
    # The retransmission by TCP was answered from the table, so the UDP leg was told to come back.
    assert [r for r in it.records('as') if r['transport'] == 'udp' and r['code'] in (0, 52)]


# ---- processes ----

def test_workers_are_locked_up(kdc):
    assert len(kdc.workers()) == 2
    for pid in kdc.workers():
        status = pathlib.Path(f'/proc/{pid}/status').read_text()
        for line in ('NoNewPrivs:\t1', 'Seccomp:\t2', 'CapEff:\t0000000000000000', 'CapPrm:\t0000000000000000',
                     'CapAmb:\t0000000000000000'):
            assert line in status, (line, status)
        limits = pathlib.Path(f'/proc/{pid}/limits').read_text()
        assert re.search(r'Max core file size\s+0\s+0', limits)
    assert re.search(r'Max core file size\s+0\s+0', pathlib.Path(f'/proc/{kdc.pid}/limits').read_text())


@as_root
def test_t122_the_same_uid_sees_no_keys(instance):
    it = instance(uid=NOBODY).start('--workers', '1')
    script = '''
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for pid in map(int, sys.argv[1:]):
    assert libc.ptrace(16, pid, None, None) == -1 and ctypes.get_errno() == 1, pid     # PTRACE_ATTACH
    for file in ("mem", "maps", "environ"):
        try:
            open(f"/proc/{pid}/{file}", "rb").read(1)
        except PermissionError:
            continue
        sys.exit(f"{file} of {pid} can be read")
'''
    subprocess.run([sys.executable, '-c', script, *[str(p) for p in [it.pid, *it.workers()]]], user=NOBODY, group=NOBODY,
                   check=True, timeout=20)
    # The check itself can fail: a plain process of that uid is open to it.
    plain = subprocess.Popen(['sleep', '30'], user=NOBODY, group=NOBODY)
    try:
        time.sleep(0.2)
        done = subprocess.run([sys.executable, '-c', script, str(plain.pid)], user=NOBODY, group=NOBODY, timeout=20)
        assert done.returncode != 0
    finally:
        plain.kill()
        plain.wait()


def test_a_killed_worker_is_replaced(kdc):
    first = kdc.workers()
    os.kill(first[0], signal.SIGKILL)
    for i in range(50):
        assert error_code(ask_udp(kdc.udp, as_req(nonce=i + 1), tries=2)) == 25
        assert error_code(ask_stream(kdc.udp, as_req(nonce=i + 1))) == 25
    kdc.wait(lambda: len(kdc.workers()) == 2 and set(kdc.workers()) != set(first))
    kdc.wait(lambda: kdc.records('worker-restart'))
    assert 'signal 9' in kdc.records('worker-restart')[0]['text']
    os.kill(kdc.workers()[0], signal.SIGKILL)
    kdc.wait(lambda: len(kdc.records('worker-restart')) == 2)
    kdc.wait(lambda: len(kdc.workers()) == 2)
    assert kdc.stop() == 0


def test_all_workers_killed(kdc):
    for pid in kdc.workers():
        os.kill(pid, signal.SIGKILL)
    kdc.wait(lambda: len(kdc.workers()) == 2)
    assert error_code(ask_udp(kdc.udp, as_req(), tries=3)) == 25


def test_killed_keeper_and_restart(kdc, kinit):
    kinit(kdc).ok()
    workers = kdc.workers()
    os.kill(kdc.pid, signal.SIGKILL)
    kdc.server.process.wait()
    kdc.wait(lambda: not any(pathlib.Path(f'/proc/{p}').exists() for p in workers))
    kdc.log.write_text('')
    began = time.monotonic()
    kdc.start('--workers', '2')
    assert time.monotonic() - began < 3
    kinit(kdc).ok()
    assert kdc.stop() == 0


@as_root
def test_t026_no_process_to_be_had(instance):
    uid = 64026
    it = instance(uid=uid).start('--workers', '2')

    def limit(n):       # as the same uid: that needs no privilege
        subprocess.run(['prlimit', '--pid', str(it.pid), f'--nproc={n}:'], check=True, user=uid, group=uid)
    limit('1')
    os.kill(it.workers()[0], signal.SIGKILL)
    it.wait(lambda: it.records('worker-failed'))
    assert error_code(ask_udp(it.udp, as_req(), tries=2)) == 25
    assert 'TEST' in it.command('status').ok()
    limit('4096')
    it.wait(lambda: len(it.workers()) == 2, patience=20)
    assert it.stop() == 0


class Relay:
    """Passes datagrams on to a KDC and keeps the requests."""

    def __init__(self, to):
        self.requests, self.to = [], to
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(('127.0.0.1', 0))
        self.port = self.kpasswd_port = self.socket.getsockname()[1]
        threading.Thread(target=self.go, daemon=True).start()

    def go(self):
        with contextlib.suppress(OSError):
            while True:
                message, back = self.socket.recvfrom(65536)
                self.requests.append(message)
                self.socket.sendto(ask_udp(self.to, message), back)


def test_replays_are_known_after_a_restart(instance, kinit):
    kdc = instance()
    kdc.configure('[kdc]\nspake = no\n')         # a SPAKE response is bound to the bytes around it anyhow
    kdc.start('--workers', '2')
    relay = Relay(kdc.udp)
    kinit(relay).ok()
    proven = relay.requests[-1]
    at = proven.index(b'\xa7\x06\x02\x04') + 7        # the nonce's last byte: other bytes around the same timestamp
    others = [proven[:at] + bytes([proven[at] ^ bit]) + proven[at + 1:] for bit in (1, 2, 4)]

    def restart():
        assert kdc.stop() == 0
        kdc.log.write_text('')
        kdc.start('--workers', '2')
    assert error_code(ask_udp(kdc.udp, others[0])) == 34
    restart()
    assert error_code(ask_udp(kdc.udp, others[1])) == 34
    assert ask_udp(kdc.udp, proven)[0] == 0x6b          # the very same bytes are no replay
    file = kdc.root / 'var/lib/sallyport/replays'
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b'x' * 100)        # nothing of ours: a start without it
    kdc.server.process.kill()
    kdc.server.process.wait()
    kdc.log.write_text('')
    kdc.start('--workers', '2')
    assert ask_udp(kdc.udp, others[2])[0] == 0x6b


def test_clean_end(kdc):
    assert kdc.sock.exists() and (kdc.run / 'admin.sock').exists()
    for signum in (signal.SIGTERM, signal.SIGINT):
        workers = kdc.workers()
        kdc.server.process.send_signal(signum)
        assert kdc.server.process.wait(10) == 0
        assert not any(pathlib.Path(f'/proc/{p}').exists() for p in workers)
        assert list(kdc.run.iterdir()) == []
        if signum == signal.SIGTERM:
            kdc.log.write_text('')
            kdc.start('--workers', '2')


@pytest.mark.parametrize('workers', ['1', '2'])
def test_the_end_answers_what_was_received(instance, workers):
    it = instance()
    it.configure('[log]\nflood = 1000\n')
    it.start('--workers', workers)
    pids = it.workers()
    streams = [connect(it.udp) for _ in range(10)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    late = [connect(it.udp) for _ in range(10)]         # the kernel took them, nobody else did
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.settimeout(2)
        for i in range(60):
            udp.sendto(as_req(nonce=i + 1), it.udp)
        for i, s in enumerate(streams + late):
            s.sendall(frame(as_req(nonce=100 + i)))
        it.server.process.terminate()
        time.sleep(0.2)
        began = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert it.server.process.wait(5) == 0
        assert time.monotonic() - began < 1
        assert [error_code(udp.recv(65536)) for _ in range(60)] == [25] * 60
    assert [error_code(receive_frame(s)) for s in streams + late] == [25] * 20
    assert len(it.records('as')) == 80


def test_the_end_under_load(kdc):
    """Who never stops asking does not keep us."""
    with Load(kdc) as load:
        time.sleep(0.5)
        began = time.monotonic()
        kdc.server.process.terminate()
        assert kdc.server.process.wait(5) == 0
        assert time.monotonic() - began < 1
        load.ending.set()
    assert load.asked > 50


def test_64_connections_at_once(kdc):
    """All get into the queue although nobody takes them out: no SYN is lost and sent again a second later."""
    for pid in kdc.workers():
        os.kill(pid, signal.SIGSTOP)
    many = [socket.socket() for _ in range(64)]
    for s in many:
        s.setblocking(False)
        s.connect_ex(kdc.udp)
    time.sleep(0.5)             # less than the first retransmission of a SYN
    assert [s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for s in many] == [0] * 64
    assert all(s.getpeername() == kdc.udp for s in many)        # raises where a connection is not made yet
    for pid in kdc.workers():
        os.kill(pid, signal.SIGCONT)
    for i, s in enumerate(many):
        s.settimeout(5)
        s.sendall(frame(as_req(nonce=i + 1)))
    assert [error_code(receive_frame(s)) for s in many] == [25] * 64


def test_sockets_are_for_whom_they_should_be(kdc):
    assert kdc.sock.stat().st_mode & 0o777 == 0o666
    assert (kdc.run / 'admin.sock').stat().st_mode & 0o777 == 0o600
    assert (kdc.root / 'var/log/sallyport/records.jsonl').stat().st_mode & 0o777 == 0o640


def test_a_long_root(instance, home):
    it = instance(root=home / ('x' * 120) / 'root').start()
    here = os.getcwd()
    os.chdir(it.run)            # our own way around 107 bytes
    try:
        assert error_code(ask_stream(pathlib.Path('kdc.sock'), as_req())) == 25
    finally:
        os.chdir(here)
    assert 'TEST' in it.command('status').ok()


# ---- configuration ----

def refused_start(it, *argv):
    done = run(argv or it.argv(), timeout=20)
    return done.code, done.text


def test_wrong_configuration_starts_nothing(instance):
    it = instance()
    it.configure('[kdc]\nlifetimes = standard\nlistn = 127.0.0.1:88\n')
    code, text = refused_start(it)
    assert code == 2 and 'test.conf:3:' in text and 'listen' in text, text
    assert not it.sock.exists()


@pytest.mark.parametrize('argv, code, said', [
    (['--listen', 'localhost:88'], 2, 'not an address'),
    (['--listen', '127.0.0.1:99999'], 2, 'port'),
    (['--workers', '0'], 2, 'workers'),
    (['--nonsense'], 2, '--nonsense: no such option; see'),
    (['--lisen', '127.0.0.1:88'], 2, '--lisen: no such option; did you mean --listen?'),
    (['--worker-s=2'], 2, '--worker-s=2: no such option; did you mean --workers?'),
    (['-z'], 2, '-z: no such option'),
    (['--root'], 2, '--root: wants a value'),
    (['nonsense'], 2, 'not an option'),
])
def test_wrong_options(argv, code, said):
    done = run([SALLYPORTD, *argv])
    assert done.code == code and said in done.text, done.text
    assert re.fullmatch(r'sallyportd: [^\n]+\n', done.text), done.text


def test_help_and_version():
    assert run([SALLYPORTD, '--help']).ok().startswith('usage: sallyportd')
    assert re.match(r'sallyportd \d+\.\d+', run([SALLYPORTD, '--version']).ok())


def test_no_instance(home):
    root = home / 'nothing'
    code, text = refused_start(None, SALLYPORTD, '--root', root)
    assert code == 3 and (f'run `sallyport --root {root} init`' in text or 'init` with the same --root' in text), text


def test_two_at_once(kdc):
    began = time.monotonic()
    code, text = refused_start(kdc, *kdc.argv())
    assert time.monotonic() - began < 1.5, 'waited for a daemon that does not go away'
    assert code == 1 and f'lock: held by another process: sallyportd, pid {kdc.pid}' in text, text
    assert kdc.sock.exists() and error_code(ask_stream(kdc.sock, as_req())) == 25


def test_a_port_that_is_taken(instance):
    it = instance()
    with socket.socket() as s:
        s.bind(('127.0.0.1', it.port))
        s.listen()
        code, text = refused_start(it)
    assert code == 1 and f'127.0.0.1:{it.port}' in text and 'another program has it' in text, text
    assert not it.sock.exists()


def test_a_start_waits_for_one_that_ends(kdc):
    """Started by hand right after the signal: the lock is free soon."""
    os.kill(kdc.workers()[0], signal.SIGSTOP)       # so that the end takes a while
    stopped = kdc.workers()[0]
    os.kill(kdc.pid, signal.SIGTERM)
    time.sleep(0.3)
    old, log = kdc.server, kdc.log
    kdc.log = kdc.root / 'second.log'
    second = subprocess.Popen([str(a) for a in kdc.argv()], stdout=open(kdc.log, 'wb'), stderr=subprocess.STDOUT)
    try:
        time.sleep(0.3)
        os.kill(stopped, signal.SIGCONT)
        kdc.wait(lambda: 'ready, realm' in kdc.log.read_text())
    finally:
        second.terminate()
        second.wait(10)
        kdc.log, kdc.server = log, old


def test_an_address_that_is_not_here(instance):
    it = instance()
    code, text = refused_start(it, SALLYPORTD, '--root', it.root, '--listen', '192.0.2.77:1088', '--listen-kpasswd', 'none')
    assert code == 1 and '192.0.2.77:1088' in text and 'does not have that address' in text and 'listen elsewhere' in text, text


@as_root
def test_what_may_not_be_done_is_status_5(instance):
    it = instance(uid=NOBODY)
    subprocess.run(['chown', '-R', str(NOBODY), it.root], check=True)
    as_nobody = ['setpriv', '--reuid', str(NOBODY), '--regid', str(NOBODY), '--clear-groups']
    log = it.root / 'var/log/sallyport'
    subprocess.run(['chown', 'root', log], check=True)
    log.chmod(0o700)
    code, text = refused_start(it, *as_nobody, *it.argv())
    assert code == 5 and 'var/log/sallyport/' in text, text
    log.chmod(0o777)
    if int(pathlib.Path('/proc/sys/net/ipv4/ip_unprivileged_port_start').read_text()) > 88:
        code, text = refused_start(it, *as_nobody, SALLYPORTD, '--root', it.root, '--listen', '127.0.0.1:88')
        assert code == 5 and '127.0.0.1:88' in text and 'need the unit, or root' in text, text
    (it.root / 'var/lib/sallyport').chmod(0)
    subprocess.run(['chown', 'root', it.root / 'var/lib/sallyport'], check=True)
    code, text = refused_start(it, *as_nobody, *it.argv())
    assert code == 5, text


# The host's own directories, in mounts that only this script sees.
PRIVATE_HOST = '''
set -e
mount --make-rprivate /
etc=$(mktemp -d)
mount -t tmpfs tmpfs $etc
cp -a /etc/. $etc 2>/dev/null || true
mount --rbind $etc /etc
for d in /var/lib /var/log /run; do mount -t tmpfs tmpfs $d; done
sed -i /^sallyport:/d /etc/passwd /etc/group
useradd() { echo "sallyport:x:64090:64090::/nonexistent:/usr/sbin/nologin" >>/etc/passwd; echo "sallyport:x:64090:" >>/etc/group; }
owners() { find /var/lib/sallyport /var/log/sallyport /run/sallyport -printf "%u\\n" | sort -u; }
start() {
    timeout 10 {daemon} --listen 127.0.0.1:{port} --listen-kpasswd none &
    for i in $(seq 100); do [ -S /run/sallyport/admin.sock ] && break; sleep 0.05; done
    sleep 0.3
    ps -o ruser:20= --ppid $!
    kill $! 2>/dev/null || true
    wait $! || echo "status $?"
}
'''


def private_host(script):
    text = PRIVATE_HOST.replace('{daemon}', SALLYPORTD).replace('{port}', str(free_port()))
    return run(['unshare', '-m', 'bash', '-c', text + script.replace('{sallyport}', SALLYPORT)], timeout=60)


@as_root
def test_the_hosts_instance_belongs_to_the_user():
    said = private_host('''
useradd
{sallyport} init --realm HOST.TEST
owners
echo Violet-Harbour-42 | {sallyport} account add alice --password-stdin
{sallyport} backup /var/lib/sallyport/copy
start
{sallyport} init
owners
''').ok()
    assert 'warning' not in said, said
    rest = said.split('sallyportd --foreground', 1)[1]
    assert rest.startswith('\nsallyport\n'), rest             # all files, and then the process
    assert 'ready, realm HOST.TEST' in rest and 'stopped' in rest and 'status' not in rest, rest
    assert re.search(r'\nsallyport *\nsallyportd: stopped', rest), rest
    assert rest.endswith('--foreground\nsallyport\n') and '\nroot' not in rest, rest


@as_root
def test_the_hosts_instance_without_the_user():
    said = private_host('''
{sallyport} init --realm HOST.TEST
owners
start || true
useradd
start || true
{sallyport} init | grep -c warning || true
owners
start
''').ok()
    assert 'warning: there is no user "sallyport"' in said and 'systemd-sysusers' in said, said
    assert 'sallyportd: there is no user "sallyport"' in said, said
    assert 'belongs to uid 0, but [daemon] user is "sallyport"; run `sallyport init` again' in said, said
    assert 'ready, realm HOST.TEST' in said.split('run `sallyport init` again')[-1], said


class Load:
    """Requests without a pause by UDP and TCP; counts what went unanswered."""

    def __init__(self, it):
        self.it, self.asked, self.failed, self.ending = it, 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.go, args=(ask,)) for ask in (ask_udp, ask_stream)]

    def go(self, ask):
        while not self.ending.is_set():
            self.asked += 1
            try:
                assert error_code(ask(self.it.udp, as_req(nonce=self.asked))) == 25
            except (OSError, AssertionError) as e:
                self.failed.append(repr(e))

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for t in self.threads:
            t.join()


def test_reload_drops_nothing(instance):
    it = instance()
    other, third = free_port(), free_port()
    listen = f'[kdc]\nlisten = 127.0.0.1:{it.port}'
    it.configure(f'{listen}\nlisten-kpasswd = none\n')
    it.start(argv=[SALLYPORTD, '--root', it.root, '--foreground'])
    workers = it.workers()
    with Load(it) as load, connect(it.udp) as kept:
        for i in range(20):
            kept.sendall(frame(as_req(nonce=i + 1)))    # a connection lives through all of them
            assert error_code(receive_frame(kept)) == 25
            it.configure(f'{listen} 127.0.0.1:{other if i % 2 == 0 else third}\nlisten-kpasswd = none\n')
            os.kill(it.pid, signal.SIGHUP)
            it.wait(lambda: len(it.records('reload')) == i + 1)
            now, gone = (other, third) if i % 2 == 0 else (third, other)
            assert error_code(ask_udp(('127.0.0.1', now), as_req())) == 25
            assert error_code(ask_stream(('127.0.0.1', now), as_req())) == 25
            it.wait(lambda: socket.socket().connect_ex(('127.0.0.1', gone)) != 0)
    assert load.failed == [] and load.asked > 100
    assert it.workers() == workers
    assert it.stop() == 0


def test_reload_changes_what_is_answered(kdc):
    assert error_code(ask_udp(kdc.udp, as_req(b'nobody-here'))) == 25
    kdc.configure('[kdc]\nreveal-unknown = yes\n')
    os.kill(kdc.pid, signal.SIGHUP)
    kdc.wait(lambda: kdc.records('reload'))
    for i in range(10):         # both workers
        kdc.wait(lambda: error_code(ask_udp(kdc.udp, as_req(b'nobody-here', nonce=i + 2))) == 6)


def test_reload_with_a_wrong_configuration(kdc):
    kdc.configure('[kdc]\nreveal-unknown = yes\nlifetimes = forever\n')
    os.kill(kdc.pid, signal.SIGHUP)
    kdc.wait(lambda: kdc.records('reload'))
    assert 'test.conf:3:' in kdc.records('reload')[0]['text'] and 'test.conf:3:' in kdc.said()
    assert error_code(ask_udp(kdc.udp, as_req(b'nobody-here'))) == 25


def test_reload_with_a_taken_port(instance):
    it = instance()
    it.configure(f'[kdc]\nlisten = 127.0.0.1:{it.port}\nlisten-kpasswd = none\n')
    it.start(argv=[SALLYPORTD, '--root', it.root, '--foreground'])
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        taken = s.getsockname()[1]
        it.configure(f'[kdc]\nlisten = 127.0.0.1:{taken}\nlisten-kpasswd = none\n')
        os.kill(it.pid, signal.SIGHUP)
        it.wait(lambda: it.records('reload'))
    assert f'127.0.0.1:{taken}' in it.records('reload')[0]['text']
    assert error_code(ask_udp(it.udp, as_req())) == 25


def test_reload_changes_the_number_of_workers(instance):
    it = instance()
    it.configure('[daemon]\nworkers = 1\n')
    it.start()
    for n in (3, 1):
        it.configure(f'[daemon]\nworkers = {n}\n')
        os.kill(it.pid, signal.SIGHUP)
        it.wait(lambda: len(it.workers()) == n)
        assert error_code(ask_udp(it.udp, as_req(), tries=2)) == 25
    assert not it.records('worker-restart')


# ---- records ----

FIELDS = {'ts', 'event', 'door', 'source', 'client', 'service', 'etypes', 'preauth', 'code', 'name', 'us', 'transport'}


def test_record_schema(kdc, kinit):
    kinit(kdc).ok()
    kdc.wait(lambda: [r for r in kdc.records('as') if r['code'] == 0])
    refused, granted = kdc.records('as')
    assert FIELDS <= set(refused) and FIELDS | {'ticket'} <= set(granted)
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z', granted['ts'])
    assert (refused['code'], refused['name']) == (25, 'KDC_ERR_PREAUTH_REQUIRED')
    assert granted['client'] == f'alice@{REALM}' and granted['service'] == f'krbtgt/{REALM}@{REALM}'
    assert granted['preauth'] == 'spake' and re.fullmatch('[0-9a-f]{32}', granted['ticket'])
    assert granted['etypes']['reply'] == 18 and granted['us'] < 1000000
    assert kinit(kdc, password='wrong-password').code != 0
    kdc.wait(lambda: [r for r in kdc.records('as') if r['code'] == 24])
    text = (kdc.root / 'var/log/sallyport/records.jsonl').read_text()
    assert 'wrong-password' not in text and PASSWORD not in text
    kdc.wait(lambda: 'last success' in kdc.command('account', 'show', 'alice').ok())
    kdc.wait(lambda: re.search(r'failures\s+1', kdc.command('account', 'show', 'alice').ok()))


@pytest.mark.parametrize('hostile', [b'a"b\\c', b'\x1b[31mred', b'line\nbreak', b'\xff\xfe\x80', b'x' * 30000,
                                     '\u202egnp'.encode()],
                         ids=['quote', 'escape', 'newline', 'no-utf8', 'long', 'right-to-left'])
def test_hostile_names_in_records(kdc, hostile):
    ask_stream(kdc.udp, as_req(hostile))
    ask_stream(kdc.udp, as_req(nonce=2))
    kdc.wait(lambda: [r for r in kdc.records() if r.get('client', '').startswith('alice@')])
    raw = (kdc.root / 'var/log/sallyport/records.jsonl').read_bytes()
    assert b'\x1b' not in raw and b'\xff' not in raw
    assert all(len(line) < 6200 for line in raw.splitlines())
    assert len(kdc.records()) == raw.count(b'\n')       # each line one object


@pytest.mark.parametrize('workers', ['1', '3'])
def test_a_flood_is_counted(instance, workers):
    it = instance()
    it.configure('[log]\nflood = 10\n')
    it.start('--workers', workers)

    def ask_many(first):
        for i in range(150):
            ask = ask_udp if i % 3 else ask_stream
            assert error_code(ask(it.udp, as_req(nonce=first + i))) == 25
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(ask_many, range(1000, 5000, 1000)))
    seconds = int(time.monotonic() - began) + 2
    time.sleep(1.2)
    ask_udp(it.udp, as_req())
    it.wait(lambda: len(it.records('as')) + sum(r['count'] for r in it.records('summary')) == 601)
    assert len(it.records('as')) <= 10 * seconds + 1
    assert it.records('summary')[0]['of'] == 'as' and it.records('summary')[0]['code'] == 25
    assert len({r['worker'] for r in it.records('summary')}) >= min(2, int(workers))


def test_rotated_log_file(kdc):
    file = kdc.root / 'var/log/sallyport/records.jsonl'
    file.rename(file.with_suffix('.1'))
    os.kill(kdc.pid, signal.SIGHUP)
    kdc.wait(lambda: kdc.records('reload'))
    ask_udp(kdc.udp, as_req())
    kdc.wait(lambda: kdc.records('as'))


@pytest.fixture
def small_disk(home):
    """A disk of its own that a test can fill."""
    if os.geteuid() != 0:
        pytest.skip('needs root to mount')
    mounted = []

    def mount(at, size):
        at.mkdir(parents=True, exist_ok=True)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', at], check=True)
        mounted.append(at)
        return at
    yield mount
    for at in mounted:
        subprocess.run(['umount', '-l', at], check=True)


def fill(directory):
    with open(directory / 'filler', 'wb', buffering=0) as f, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    f.write(b'\0' * size)
    return directory / 'filler'


def test_full_log_disk(instance, small_disk, kinit):
    it = instance()
    disk = small_disk(it.root / 'var/log/sallyport', '64k')
    it.configure('[log]\nflood = 100000\n')
    it.start('--workers', '2')
    filler = fill(disk)
    for i in range(100):
        assert error_code(ask_udp(it.udp, as_req(nonce=i + 1))) == 25
    kinit(it).ok()
    time.sleep(0.3)
    filler.unlink()
    ask_udp(it.udp, as_req(nonce=1000))
    it.wait(lambda: it.records('as')[-1:] and it.records()[-1]['event'] == 'as')

    def lost():         # what the file says is missing
        return sum(r['count'] for r in it.records('records-lost'))
    it.wait(lambda: len(it.records('as')) + lost() == 103)
    assert lost() > 20
    assert it.stop() == 0


def test_full_disk_refuses_changes_and_logins_go_on(instance, small_disk, home, kinit):       # T112
    it = instance(root=small_disk(home / 'disk', '48m') / 'root')
    it.start('--workers', '1')
    filler = fill(home / 'disk')
    refused = it.command('account', 'add', 'late', '--password-stdin', stdin=PASSWORD + '\n')
    if refused.code == 0:       # pages that LMDB had free already
        for i in range(2000):
            refused = it.command('account', 'add', f'late{i}', '--password-stdin', stdin=PASSWORD + '\n')
            if refused.code != 0:
                break
    assert refused.code != 0
    kinit(it).ok()
    filler.unlink()
    it.command('account', 'add', 'later', '--password-stdin', stdin=PASSWORD + '\n').ok()
    kinit(it, 'later').ok()
    assert it.stop() == 0


# ---- the service manager ----

@pytest.mark.parametrize('abstract', [False, True])
def test_notifications(instance, home, abstract):
    path = f'@sallyport-test-{os.getpid()}' if abstract else str(home / 'notify')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind('\0' + path[1:] if abstract else path)
        s.settimeout(10)
        it = instance().start(env={'NOTIFY_SOCKET': path, 'WATCHDOG_USEC': '1000000'})
        assert s.recv(1000).startswith(b'READY=1')
        said = s.recv(1000)
        assert said == b'WATCHDOG=1'
        os.kill(it.pid, signal.SIGHUP)
        while said == b'WATCHDOG=1':
            said = s.recv(1000)
        assert re.fullmatch(rb'RELOADING=1\nMONOTONIC_USEC=\d+', said)
        said = s.recv(1000)
        while said == b'WATCHDOG=1':
            said = s.recv(1000)
        assert said == b'READY=1'
        assert it.stop() == 0
        while said in (b'WATCHDOG=1', b'READY=1'):
            said = s.recv(1000)
        assert said == b'STOPPING=1'


# ---- the administrator's socket ----

def admin(it, message, raw=False):
    with connect(it.run / 'admin.sock') as s:
        s.sendall(message if raw else frame(message))
        return json.loads(receive_frame(s))


def test_admin_socket(kdc):
    answer = admin(kdc, json.dumps({'op': 'status'}).encode())
    assert answer['ok'] and answer['result']['realm'] == REALM and answer['result']['daemon']['workers'] == 2
    for wrong in (b'not json', b'[]', b'{}', b'{"op":"nonsense"}', b'{"op":7}'):
        answer = admin(kdc, wrong)
        assert answer['ok'] is False and answer['text'], wrong
    assert admin(kdc, b'\xff\xff\xff\xff', raw=True)['ok'] is False
    with connect(kdc.run / 'admin.sock') as half, connect(kdc.run / 'admin.sock') as two:
        half.sendall(frame(b'{"op":"status"}')[:9])
        two.sendall(frame(b'{"op":"status"}') * 2)      # one after the other on one connection
        assert json.loads(receive_frame(two))['ok'] and json.loads(receive_frame(two))['ok']
        half.sendall(frame(b'{"op":"status"}')[9:])
        assert json.loads(receive_frame(half))['ok']


@as_root
def test_admin_socket_is_not_for_everybody(instance):
    it = instance(uid=NOBODY).start('--workers', '1')
    os.chmod(it.run / 'admin.sock', 0o666)      # even then the uid counts
    script = f'''
import socket
s = socket.socket(socket.AF_UNIX)
s.connect({str(it.run / "admin.sock")!r})
s.settimeout(5)
try:
    s.sendall({frame(b'{"op":"status"}')!r})
    got = s.recv(4)
except ConnectionError:
    got = b""
assert got == b"", got
'''
    subprocess.run([sys.executable, '-c', script], user=12345, group=12345, check=True, timeout=20)
    assert admin(it, b'{"op":"status"}')['ok']


def test_admin_changes_are_recorded_without_secrets(kdc):
    kdc.command('account', 'add', 'bob', '--password-stdin', stdin=PASSWORD + '\n').ok()
    kdc.wait(lambda: kdc.records('admin'))
    assert 'account.add bob by uid' in kdc.records('admin')[0]['text']
    assert PASSWORD not in (kdc.root / 'var/log/sallyport/records.jsonl').read_text() + kdc.said()


def test_changes_are_seen_at_once(kdc, kinit):       # T053
    kinit(kdc).ok()
    kdc.command('account', 'disable', 'alice').ok()
    assert kinit(kdc).code != 0
    kdc.command('account', 'enable', 'alice').ok()
    kinit(kdc).ok()


# ---- changes under load ----

LOGINS = '''while [ ! -e {cache}.stop ]; do
    if said=$(echo {password} | kinit -c {cache} alice 2>&1 >/dev/null); then echo yes; else echo no; echo $said >>{cache}.said; fi
done'''


def test_t117_password_change_among_logins(kdc, kinit, home):
    kdc.configure('[kdc]\nguess-limits = off\n')
    os.kill(kdc.pid, signal.SIGHUP)
    kdc.wait(lambda: [r for r in kdc.records('reload') if 'read again' in r['text']])

    def logins(password, cache):
        return kinit(kdc, script=LOGINS.format(password=password, cache=home / cache)).text.split()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        old, new = pool.submit(logins, PASSWORD, 'old'), pool.submit(logins, OTHER_PASSWORD, 'new')
        time.sleep(0.5)
        kinit(kdc, script=f"printf '%s\\n' {PASSWORD} {OTHER_PASSWORD} {OTHER_PASSWORD} | kpasswd alice").ok()
        time.sleep(0.5)
        for cache in ('old', 'new'):
            (home / f'{cache}.stop').touch()
        old, new = old.result(), new.result()
    # Each series changes its answer once, and never back; the records say why it did not.
    why = {s: collections.Counter((home / f'{s}.said').read_text().splitlines()) for s in ('old', 'new')}
    assert old == sorted(old, reverse=True) and old[0] == 'yes' and old[-1] == 'no', (old, why)
    assert new == sorted(new) and new[0] == 'no' and new[-1] == 'yes', (new, why)


def test_t118_rotation_among_logins(kdc, kinit, home):
    kdc.command('service', 'add', f'host/{HOST}').ok()
    kinit(kdc).ok()
    script = f'''for i in $(seq 60); do
        echo {PASSWORD} | kinit -c {home}/fresh alice >/dev/null && kvno -c {home}/fresh host/{HOST} >/dev/null || echo fresh
        cp {home}/cc {home}/copy && kvno -c {home}/copy host/{HOST} >/dev/null || echo old
    done'''
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        logins = pool.submit(kinit, kdc, script=script)
        time.sleep(0.2)
        assert admin(kdc, b'{"op":"krbtgt.rotate"}')['ok']     # one rotation: the key before still opens tickets
        for _ in range(3):
            assert admin(kdc, json.dumps({'op': 'service.rotate', 'name': f'host/{HOST}'}).encode())['ok']
            time.sleep(0.1)
        assert logins.result().ok().strip() == ''


def test_t128_a_restored_backup(instance, kinit, home):
    """Copied while logins go on, opened elsewhere with its key: tickets of before are good until the re-key, then no more."""
    it = instance()
    it.start()
    it.command('service', 'add', f'host/{HOST}').ok()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        going = [pool.submit(lambda i=i: error_code(ask_udp(it.udp, as_req(nonce=i)))) for i in range(1, 200)]
        it.command('backup', home / 'copy').ok()
        assert {g.result() for g in going} == {25}
    kinit(it).ok()
    to = instance(root=home / 'elsewhere')
    state = to.root / 'var/lib/sallyport'
    key = (it.root / 'var/lib/sallyport/master.key').read_bytes()
    shutil.rmtree(state)
    shutil.copytree(home / 'copy', state)
    (state / 'master.key').write_bytes(key)
    (state / 'master.key').chmod(0o600)
    to.start()
    it.stop()
    kinit(to, script=f'kvno host/{HOST}').ok()          # the cache is of the first instance
    assert 'kvno' in to.command('krbtgt', 'rotate', '--revoke').ok()
    kinit(to, script='kvno kadmin/changepw').refused('.')       # the TGT: not in the cache, so the KDC is asked
    to.wait(lambda: [r for r in to.records('tgs') if r['code'] != 0])
    assert {r['code'] for r in to.records('tgs')} == {0, 44}, to.records('tgs')        # 44: a key that is not here
    kinit(to).ok()
    kinit(to, script=f'kvno host/{HOST}').ok()


def test_krbtgt_rotates_by_itself(instance, kinit):
    it = instance()
    it.configure('[keys]\nkrbtgt-rotate = 1s\n')
    it.start('--workers', '1')
    it.wait(lambda: it.records('krbtgt-rotate'), patience=15)
    assert 'new key' in it.records('krbtgt-rotate')[0]['text']
    kinit(it).ok()


@pytest.mark.parametrize('transport', ['udp', 'tcp'])
def test_kpasswd_by_hand_is_answered(kdc, transport):
    """Not a password change, but answered as RFC 3244 says, at the door for it."""
    message = struct.pack('>HHH', 10, 1, 4) + b'\x6e\x02\x30\x00'
    to = ('127.0.0.1', kdc.kpasswd_port)
    reply = ask_udp(to, message) if transport == 'udp' else ask_stream(to, message)
    assert len(reply) > 6
    kdc.wait(lambda: [r for r in kdc.records() if r.get('door') == 'kpasswd'])


def test_kpasswd_through_the_unix_socket(kdc):
    message = struct.pack('>HHH', 10, 1, 4) + b'\x6e\x02\x30\x00'
    assert len(ask_stream(kdc.sock, message)) > 6
    kdc.wait(lambda: [r for r in kdc.records() if (r.get('door'), r.get('transport')) == ('kpasswd', 'unix')])


# ---- units ----

@pytest.fixture
def unit(tmp_path):
    if not shutil.which('systemd-analyze'):
        harness.absent('systemd-analyze is absent')
    text = (harness.TOP / 'dist/systemd/sallyportd.service.in').read_text()
    file = tmp_path / 'sallyportd.service'
    file.write_text(text.replace('@sbindir@/sallyportd', SALLYPORTD))
    return file


def test_unit_is_clean(unit):
    done = run(['systemd-analyze', 'verify', '--man=no', unit])
    assert done.ok() == '', done.text


def test_unit_is_hard(unit):
    text = run(['systemd-analyze', 'security', '--offline=true', unit]).text
    score = float(re.search(r'Overall exposure level for \S+: ([\d.]+)', text)[1])
    assert score <= 2.0, text
