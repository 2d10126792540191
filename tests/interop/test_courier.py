# SPDX-License-Identifier: MIT
"""The acceptors' socket: what it carries, for whom, and what it does when a worker is silent or gone."""
import contextlib
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

import harness
from harness import BUILD, HOST, PASSWORD, REALM, run
from test_daemon import (NOBODY, as_req, as_root, connect, contents, der, error_code, frame, instance, integer,  # noqa: F401
                         kdc, kinit, name, receive, receive_frame)
from test_secrets import found, known_keys, memory, scan

CARRY, CARRIED, REFUSED, HELLO, REALM_IS, NOTE = range(1, 7)
T_REALM, T_MESSAGE, T_ADDRESS, T_SERVICE, T_TRANSPORT, T_CODE, T_TEXT, T_ALIAS, T_OLD_MIT, T_FINISHED, T_OTHER, \
    T_CLIENT = range(1, 13)
FRAME_MAX = 128 * 1024


# ---- frames by hand ----

def tlv(kind, value):
    if len(value) > 0xffff:
        return bytes([kind | 0x80]) + struct.pack('>I', len(value))[1:] + value
    return bytes([kind]) + struct.pack('>H', len(value)) + value


def packet(kind, number, *tlvs):
    return frame(bytes([1, kind]) + struct.pack('>I', number) + b''.join(tlv(k, v) for k, v in tlvs))


def carry(number, message, realm=REALM.encode(), **more):
    names = {'address': T_ADDRESS, 'service': T_SERVICE, 'transport': T_TRANSPORT}
    return packet(CARRY, number, (T_REALM, realm), (T_MESSAGE, message), *[(names[k], v) for k, v in more.items()])


def unpack(b):
    """(type, id, [(tlv, value)])"""
    assert b[0] == 1
    found_tlvs, at = [], 6
    while at < len(b):
        kind, long = b[at] & 0x7f, b[at] & 0x80
        n = int.from_bytes(b[at + 1:at + (4 if long else 3)], 'big')
        at += 4 if long else 3
        found_tlvs.append((kind, b[at:at + n]))
        at += n
    return b[1], struct.unpack('>I', b[2:6])[0], found_tlvs


def answer_on(s):
    got = receive_frame(s)
    assert got, 'the courier ended the connection'
    kind, number, tlvs = unpack(got)
    return kind, number, dict(tlvs)


@pytest.fixture(scope='module', autouse=True)
def short():
    """A UNIX path holds 107 bytes: the sockets are reached through links in here."""
    global links
    with tempfile.TemporaryDirectory(prefix='c') as top:
        os.chmod(top, 0o755)
        links = pathlib.Path(top)
        yield


def link_to(it):
    link = links / f'{it.port}-{it.pid}'        # ports come back
    with contextlib.suppress(FileExistsError):
        link.symlink_to(it.run)
    return link


def door(it, timeout=10):
    return connect(link_to(it) / 'courier.sock', timeout=timeout)


def ask(it, message, uid=None, **more):
    """(type, fields) of one request on a connection of its own."""
    with as_uid(uid), door(it) as s:
        s.sendall(carry(7, message, **more))
        kind, number, fields = answer_on(s)
        assert number == 7
        return kind, fields


@contextlib.contextmanager
def as_uid(uid):
    if uid is not None:
        os.seteuid(uid)
    try:
        yield
    finally:
        if uid is not None:
            os.seteuid(0)


def carried_code(it, message, **more):
    kind, fields = ask(it, message, **more)
    assert kind == CARRIED, fields
    return error_code(fields[T_MESSAGE])


def refused_code(it, message, **more):
    kind, fields = ask(it, message, **more)
    assert kind == REFUSED, fields
    return struct.unpack('>i', fields[T_CODE])[0]


def courier(it):
    done = subprocess.run(['pgrep', '-x', '-P', str(it.pid), 'sallyport-cour'], capture_output=True, text=True)
    pids = [int(p) for p in done.stdout.split()]
    return pids[0] if pids else None


def carried(it):
    """What came to a worker through the courier."""
    return [r for r in it.records() if r.get('door') == 'courier' and r['event'] != 'carry' and 'code' in r]


def reload(it, text):
    before = len(it.records('reload'))
    it.configure(text)
    os.kill(it.pid, signal.SIGHUP)
    it.wait(lambda: len(it.records('reload')) == before + 1)


@pytest.fixture
def one(instance):      # noqa: F811
    return instance().start('--workers', '1')


# ---- what it says and carries ----

def hello(it):
    with door(it) as s:
        s.sendall(packet(HELLO, 5))
        kind, number, tlvs = unpack(receive_frame(s))
    assert (kind, number) == (REALM_IS, 5)
    return tlvs


def test_hello_says_the_realm_and_what_acceptors_do(kdc):       # noqa: F811
    told = hello(kdc)
    assert dict(told)[T_REALM] == REALM.encode()
    assert socket.gethostname().split('.')[0].lower().encode() in [v for k, v in told if k == T_ALIAS]
    assert dict(told)[T_OLD_MIT] == b'\1' and dict(told)[T_FINISHED] == b'\1' and T_OTHER not in dict(told)
    reload(kdc, '[realm]\naliases = nas1\n[iakerb]\nold-mit = accept\nfinished = optional\nrealms = OTHER, THIRD\n')
    told = hello(kdc)
    assert dict(told)[T_OLD_MIT] == b'\2' and dict(told)[T_FINISHED] == b'\2'
    assert [v for k, v in told if k == T_OTHER] == [b'OTHER', b'THIRD'] and (T_ALIAS, b'nas1') in told


def test_acceptors_tell_how_their_contexts_ended(one):
    with door(one) as s:
        s.sendall(packet(NOTE, 1, (T_CLIENT, b'alice@X'), (T_SERVICE, b'HTTP/nas1'), (T_TEXT, b'accepted')))
        s.sendall(packet(NOTE, 2, (T_CODE, struct.pack('>I', 41)), (T_TEXT, b'"FINISHED"\n\x1b[31m is wrong' + b'x' * 70000)))
        s.sendall(packet(HELLO, 3))
        assert answer_on(s)[:2] == (REALM_IS, 3)         # notes have no answer
    one.wait(lambda: len(one.records('context')) == 2)
    good, bad = one.records('context')
    assert good['client'] == 'alice@X' and good['code'] == 0 and good['text'] == 'accepted' and good['acceptor'] == 'HTTP/nas1', good
    assert bad['code'] == 41 and bad['text'].startswith('"FINISHED"') and len(bad['text']) < 160, bad
    assert good['source'] == bad['source'] == 'uid 0'


class Proxy(threading.Thread):
    """A KDC port whose requests go through the courier: so any stock client is an acceptor's client."""

    def __init__(self, it):
        super().__init__(daemon=True)
        self.it, self.listener, self.seen = it, socket.create_server(('127.0.0.1', 0)), []
        self.port, self.kpasswd_port = self.listener.getsockname()[1], it.kpasswd_port

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            with s:
                message = receive_frame(s)
                kind, fields = ask(self.it, message, service=b'HTTP/nas1.test', transport=b'in-band')
                self.seen.append((kind, message, fields))
                if kind == CARRIED:
                    s.sendall(frame(fields[T_MESSAGE]))


@pytest.fixture
def proxy(kdc):     # noqa: F811
    it = Proxy(kdc)
    it.start()
    yield it
    it.listener.close()


def test_a_stock_client_logs_in_through_it(kdc, proxy, kinit, home):       # noqa: F811
    kdc.command('service', 'add', f'host/{HOST}').ok()
    kinit(proxy, script=f'echo {PASSWORD} | kinit -c {home}/cc alice >/dev/null && kvno -c {home}/cc host/{HOST}').ok()
    assert kinit(proxy, password='wrong-password').code != 0
    assert len(proxy.seen) >= 5 and {kind for kind, _, _ in proxy.seen} == {CARRIED}
    kdc.wait(lambda: [r for r in carried(kdc) if r['code'] == 24])
    for r in carried(kdc):
        assert (r['transport'], r['acceptor'], r['source']) == ('in-band', 'HTTP/nas1.test', f'uid {os.geteuid()}')
    done = {(r['event'], r['code']) for r in carried(kdc)}
    assert {('as', 25), ('as', 0), ('tgs', 0), ('as', 24)} <= done
    granted = [r for r in carried(kdc) if (r['event'], r['code']) == ('tgs', 0)][0]
    assert granted['client'] == f'alice@{REALM}' and granted['service'] == f'host/{HOST}@{REALM}'
    assert not [r for r in kdc.records() if r.get('transport') in ('udp', 'tcp')]


@pytest.mark.parametrize('realm', [REALM.encode(), REALM.lower().encode(), b'', b'.'])
def test_names_of_the_local_realm(kdc, realm):      # noqa: F811
    assert carried_code(kdc, as_req(), realm=realm) == 25


def foreign(realm=b'ELSEWHERE'):
    return as_req().replace(b'\x1b\x04TEST', b'\x1b\x04' + realm[:4])


@pytest.mark.parametrize('realm', [b'ELSEWHERE', b'TEST.', b'TEST\0X', b'x' * 255, b'127.0.0.1', b'\xff\xfe'],
                         ids=['other', 'dot', 'nul', 'long', 'address', 'no-text'])
def test_t061_other_realms_are_not_found(kdc, realm):       # noqa: F811
    assert refused_code(kdc, as_req(), realm=realm) == 85
    assert refused_code(kdc, foreign()) == 85
    kdc.wait(lambda: len(kdc.records('carry')) == 2)
    assert {r['code'] for r in kdc.records('carry')} == {85} and carried(kdc) == []
    assert kdc.records('carry')[1]['client'] == 'alice@ELSE'


def ap_req():
    ticket = der(0x61, der(0x30, der(0xa0, integer(5)) + der(0xa1, der(0x1b, REALM.encode())) +
                           der(0xa2, name(2, b'host', b'x')) + der(0xa3, der(0x30, der(0xa0, integer(18)) +
                                                                           der(0xa2, der(4, b'x' * 40))))))
    return der(0x6e, der(0x30, der(0xa0, integer(5)) + der(0xa1, integer(14)) + der(0xa2, der(3, b'\0\0\0\0\0')) +
                         der(0xa3, ticket) + der(0xa4, der(0x30, der(0xa0, integer(18)) + der(0xa2, der(4, b'x' * 40))))))


KPASSWD = struct.pack('>HHH', 10, 1, 4) + b'\x6e\x02\x30\x00'
NO_REQUESTS = {
    'http': b'POST / HTTP/1.1\r\nHost: x\r\n\r\n', 'random': bytes(range(256)), 'ap-req': ap_req(),
    'krb-safe': b'\x74' + as_req()[1:], 'two': as_req() + as_req(nonce=2), 'tail': as_req() + b'\0', 'cut': as_req()[:-1],
    'empty': b'', 'kpasswd': KPASSWD, 'as-rep': b'\x6b' + as_req()[1:], 'error': b'\x7e' + as_req()[1:],
    'msg-type': as_req().replace(b'\xa2\x03\x02\x01\x0a', b'\xa2\x03\x02\x01\x0c'),
}


@pytest.mark.parametrize('what', NO_REQUESTS)
def test_t062_only_requests_are_carried(one, what):
    assert refused_code(one, NO_REQUESTS[what]) == 40
    one.wait(lambda: one.records('carry'))
    assert one.records('carry')[0]['code'] == 40 and carried(one) == []
    assert not [r for r in one.records() if r['event'] in ('as', 'tgs', 'malformed')]


def test_requests_up_to_the_limit(one):
    room = 65536 - len(as_req(padding=b'x' * 60000)) + 60000
    assert carried_code(one, as_req(padding=b'x' * room)) == 25
    assert refused_code(one, as_req(padding=b'x' * (room + 1))) == 61


def test_p44_texts_for_people_stay_inside(kdc):     # noqa: F811
    elsewhere = as_req().replace(b'krbtgt', b'nobody')
    with connect(kdc.udp) as s:
        s.sendall(frame(elsewhere))
        plain = receive_frame(s)
    kind, fields = ask(kdc, elsewhere.replace(integer(1), integer(1)))
    assert kind == CARRIED and error_code(plain) == error_code(fields[T_MESSAGE]) == 7
    inside = [dict(contents(contents_of(m))) for m in (plain, fields[T_MESSAGE])]
    assert 0xab in inside[0] and 0xab not in inside[1]


def contents_of(message):
    (_, whole), = contents(message)
    (_, sequence), = contents(whole)
    return sequence


# ---- frames that are none ----

@pytest.mark.parametrize('bad', [
    struct.pack('>I', 0), struct.pack('>I', 5) + b'\1\4\0\0\0', struct.pack('>I', FRAME_MAX + 1), struct.pack('>I', 0x80000010),
    frame(b'\2\4\0\0\0\1'), frame(b'\1\1\0\0\0\1\1\0\x50NAS1'), frame(b'\1\1\0\0\0\1\6\0\3\0\0\1'), b'GET / HTTP/1.1\r\n\r\n',
])
def test_bad_frames_end_the_connection(one, bad):
    with door(one) as s:
        s.sendall(bad)
        assert s.recv(100) == b''
    one.wait(lambda: one.records('malformed'))
    assert one.records('malformed')[0]['door'] == 'courier'
    assert carried_code(one, as_req()) == 25


def test_unknown_types_and_fields(one):
    with door(one) as s:
        s.sendall(packet(99, 3))
        kind, number, fields = answer_on(s)
        assert (kind, number, fields[T_CODE]) == (REFUSED, 3, struct.pack('>i', 60))
        s.sendall(packet(CARRY, 4, (T_REALM, REALM.encode()), (77, b'x'), (T_MESSAGE, as_req())))
        assert answer_on(s)[:2] == (CARRIED, 4)


def test_a_frame_in_pieces(one):
    with door(one) as s:
        for b in carry(9, as_req()):
            s.sendall(bytes([b]))
        assert answer_on(s)[:2] == (CARRIED, 9)


def test_a_claimed_length_costs_nothing_and_stalls_end(one):
    def resident():
        return int(re.search(r'VmRSS:\s+(\d+)', pathlib.Path(f'/proc/{courier(one)}/status').read_text())[1])
    with contextlib.ExitStack() as all:
        before, began = resident(), time.monotonic()
        talks = [all.enter_context(door(one)) for _ in range(60)]
        for s in talks:
            s.sendall(struct.pack('>I', FRAME_MAX) + b'\1')
        assert carried_code(one, as_req()) == 25
        assert resident() - before < 1000       # KiB; 60 times 128 KiB would be 7,680
        assert talks[0].recv(1) == b''
        assert 4 < time.monotonic() - began < 8


# ---- many at once ----

def test_answers_carry_their_ids_in_any_order(kdc):     # noqa: F811
    """With one worker of two stopped, its half waits; the other half is answered, and then the rest."""
    stopped = kdc.workers()[0]
    with door(kdc) as s:
        os.kill(stopped, signal.SIGSTOP)
        try:
            s.sendall(b''.join(carry(i, as_req(nonce=i)) for i in range(1, 21)) + packet(HELLO, 99))
            first = [answer_on(s)[1] for _ in range(11)]
        finally:
            os.kill(stopped, signal.SIGCONT)
        rest = [answer_on(s)[1] for _ in range(10)]
    assert 99 in first and set(first + rest) == {*range(1, 21), 99}
    assert first + rest != [*range(1, 21), 99]


def test_no_more_than_32_under_way(one):
    """A connection that asks more is not listened to until it has answers; everything is answered in the end."""
    worker = one.workers()[0]
    with door(one) as s:
        os.kill(worker, signal.SIGSTOP)
        s.sendall(b''.join(carry(i, as_req(nonce=i)) for i in range(1, 101)))
        time.sleep(0.3)
        s.sendall(packet(HELLO, 999))
        assert select.select([s], [], [], 0.3)[0] == []     # behind the others
        os.kill(worker, signal.SIGCONT)
        assert {answer_on(s)[1] for _ in range(101)} == {*range(1, 101), 999}


def test_a_slow_reader_is_dropped(one):
    """HELLO costs nothing to ask; who never takes the answers goes, and is not kept in memory."""
    with door(one) as s:
        s.setblocking(False)
        sent, end = 0, time.monotonic() + 12
        while time.monotonic() < end:
            try:
                sent += s.send(packet(HELLO, 1) * 100)
            except BlockingIOError:
                select.select([], [s], [], 0.2)
            except (BrokenPipeError, ConnectionResetError):
                break
        else:
            pytest.fail(f'still there after {sent} bytes')
    assert carried_code(one, as_req()) == 25


@pytest.fixture
def descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 10300:
        pytest.skip(f'only {before[1]} descriptors')
    resource.setrlimit(resource.RLIMIT_NOFILE, (10300, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def alive(talks):
    poll = select.poll()
    for s in talks:
        poll.register(s, select.POLLIN)
    return len(talks) - len(poll.poll(0))


def test_ten_thousand_idle_connections(one, descriptors):
    """One user keeps 64, the newest; whoever comes is served."""
    talks = []
    try:
        for i in range(10000):
            talks.append(door(one))
            if i % 1000 == 999:
                assert carried_code(one, as_req(nonce=i)) == 25
        one.wait(lambda: alive(talks) <= 64)
        assert 60 <= alive(talks) <= 64 and alive(talks[-60:]) == 60
        if os.geteuid() == 0:
            assert carried_code(one, as_req(nonce=77777), uid=NOBODY) == 25
        fds = len(os.listdir(f'/proc/{courier(one)}/fd'))
        assert fds < 64 + 20, fds
    finally:
        for s in talks:
            s.close()


@as_root
def test_the_limit_over_all_users(instance):        # noqa: F811
    it = instance()
    it.configure('[courier]\nmax-connections = 100\n')
    it.start('--workers', '1')
    talks, link = [], link_to(it)
    for uid in range(60000, 60005):
        for _ in range(50):
            assert link.is_symlink()
            with as_uid(uid):
                talks.append(door(it))
    it.wait(lambda: alive(talks) <= 100)
    assert alive(talks) >= 99 and alive(talks[-99:]) == 99
    assert carried_code(it, as_req()) == 25


def test_who_waits_for_an_answer_is_not_the_one_to_go(one):
    worker = one.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    asking, idle = [], []
    for i in range(63):
        asking.append(door(one))
        asking[-1].sendall(carry(i, as_req(nonce=i + 1)))
    time.sleep(0.3)
    idle = [door(one) for _ in range(30)]
    os.kill(worker, signal.SIGCONT)
    assert [answer_on(s)[1] for s in asking] == list(range(63))
    one.wait(lambda: alive(idle) <= 1)


def test_p42_contexts_of_one_client(instance):     # noqa: F811
    """A client that its service names has 16 connections, the newest; other clients of that service lose none."""
    it = instance()
    it.configure(f'[courier]\nattest = {os.geteuid()}\n[kdc]\nguess-limits = off\n')
    it.start('--workers', '1')
    greedy, other = socket.inet_aton('192.0.2.7'), socket.inet_aton('192.0.2.8')

    def opened(n, address, nonce):
        talks = [door(it) for _ in range(n)]
        for i, s in enumerate(talks):
            s.sendall(carry(i, as_req(nonce=nonce + i), address=address))
            assert answer_on(s)[0] == CARRIED
        return talks
    honest = opened(3, other, 1000)
    talks = opened(16, greedy, 1)
    assert alive(talks) == 16
    talks += opened(20, greedy, 101)
    it.wait(lambda: alive(talks) <= 16)
    assert alive(talks[-16:]) == 16 and alive(honest) == 3
    os.kill(it.workers()[0], signal.SIGSTOP)
    for i, s in enumerate(talks[-16:]):
        s.sendall(carry(50 + i, as_req(nonce=500 + i), address=greedy))
    time.sleep(0.3)
    assert refused_code(it, as_req(nonce=600), address=greedy) == 86        # every one of them waits
    os.kill(it.workers()[0], signal.SIGCONT)
    assert {answer_on(s)[0] for s in talks[-16:]} == {CARRIED}
    assert alive(honest) == 3 and carried_code(it, as_req(nonce=601), address=other) == 25


# ---- silence ----

def test_a_silent_kdc_is_86_within_5_s(one):
    worker = one.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    assert refused_code(one, as_req()) == 86
    assert 4 < time.monotonic() - began < 5
    one.wait(lambda: one.records('carry'))
    assert (one.records('carry')[0]['code'], one.records('carry')[0]['name']) == (86, 'KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE')
    os.kill(worker, signal.SIGCONT)
    for i in range(5):      # the late answer is nobody's
        assert carried_code(one, as_req(nonce=i + 2)) == 25


def test_t064_a_stuck_worker_holds_up_nobody(instance):     # noqa: F811
    """A hundred at once, half of them to a worker that is stopped: a second later the other one has them all."""
    it = instance()
    it.configure('[log]\nflood = 1000000\n')
    it.start('--workers', '2')
    stuck, other = it.workers()
    users = [None, NOBODY] if os.geteuid() == 0 else [None]
    os.kill(stuck, signal.SIGSTOP)
    try:
        talks = []
        for i in range(100 if len(users) > 1 else 60):
            with as_uid(users[i % len(users)]):
                talks.append(door(it))
        began = time.monotonic()
        for i, s in enumerate(talks):
            s.sendall(carry(i, as_req(nonce=i + 1)))
        for i, s in enumerate(talks):
            kind, number, fields = answer_on(s)
            assert (kind, number, error_code(fields[T_MESSAGE])) == (CARRIED, i, 25)
        assert time.monotonic() - began < 4, 'as long as it takes to give up'
        began = time.monotonic()
        for i in range(50):
            assert carried_code(it, as_req(nonce=1000 + i)) == 25
        assert time.monotonic() - began < 2, 'who came later waited, too'
    finally:
        os.kill(stuck, signal.SIGCONT)
    for i, s in enumerate(talks):           # late answers are nobody's
        s.sendall(carry(i, as_req(nonce=2000 + i)))
        assert answer_on(s)[1] == i
    os.kill(other, signal.SIGSTOP)          # who was silent has spoken, and is asked again
    assert carried_code(it, as_req(nonce=3000)) == 25
    os.kill(other, signal.SIGCONT)


@pytest.mark.parametrize('workers', [1, 2])
def test_a_worker_that_dies_over_a_request(instance, workers):      # noqa: F811
    it = instance().start('--workers', str(workers))
    stopped = it.workers()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with door(it) as s:
        began = time.monotonic()
        s.sendall(b''.join(carry(i, as_req(nonce=i)) for i in range(1, 9)))
        time.sleep(0.2)
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        got = [answer_on(s) for _ in range(8)]
        took = time.monotonic() - began
    assert took < 5 and {n for _, n, _ in got} == set(range(1, 9))
    assert all(error_code(f[T_MESSAGE]) == 25 if k == CARRIED else f[T_CODE] == struct.pack('>i', 86) for k, _, f in got)
    assert CARRIED in [k for k, _, _ in got]
    it.wait(lambda: len(it.workers()) == workers)
    assert carried_code(it, as_req(nonce=99)) == 25


def test_a_killed_courier_comes_back(kdc, kinit):       # noqa: F811
    first = courier(kdc)
    with door(kdc) as s:
        s.sendall(packet(HELLO, 1))
        assert answer_on(s)[0] == REALM_IS
        os.kill(first, signal.SIGKILL)
        assert s.recv(1) == b''
    kdc.wait(lambda: courier(kdc) not in (None, first))
    assert carried_code(kdc, as_req()) == 25
    assert 'courier' in kdc.records('worker-restart')[0]['text']
    kinit(kdc).ok()


# ---- whose word counts ----

def sources(it):
    return [r['source'] for r in carried(it)]


def test_attested_addresses_on_and_off(one):
    uid = os.geteuid()
    v4, v6 = socket.inet_aton('192.0.2.7'), socket.inet_pton(socket.AF_INET6, '2001:db8::7')

    def asked(nonce, address):
        before = len(carried(one))
        assert carried_code(one, as_req(nonce=nonce), address=address) == 25
        one.wait(lambda: len(carried(one)) == before + 1)
        return sources(one)[-1]
    assert asked(1, v4) == f'uid {uid}'
    reload(one, f'[courier]\nattest = 4242 {uid}\n')
    assert asked(2, v4) == f'192.0.2.7 by uid {uid}'
    assert asked(3, v6) == f'2001:db8::7 by uid {uid}'
    assert asked(4, b'') == f'uid {uid}'
    assert asked(5, b'123') == f'uid {uid}'         # no address
    reload(one, '[courier]\nattest = 4242\n')
    assert asked(6, v4) == f'uid {uid}'


@as_root
def test_only_attesters_are_believed(instance):     # noqa: F811
    it = instance()
    it.configure('[courier]\nattest = root\n')
    it.start('--workers', '1')
    address = socket.inet_aton('192.0.2.7')
    assert carried_code(it, as_req(nonce=1), address=address) == 25
    assert carried_code(it, as_req(nonce=2), address=address, uid=NOBODY) == 25
    it.wait(lambda: len(carried(it)) == 2)
    assert sources(it) == ['192.0.2.7 by uid 0', f'uid {NOBODY}']


@as_root
def test_root_at_the_courier_is_not_the_console(instance):      # noqa: F811
    """A service of root speaks for others: its guesses are limited, which root's own at kdc.sock are not."""
    it = instance().start('--workers', '1')
    wrong = [as_req(nonce=i + 1, proof=bytes([i]) * 60) for i in range(60)]
    assert {carried_code(it, m) for m in wrong} == {24}
    it.wait(lambda: len(carried(it)) == 60 or it.records('summary'))
    assert [r for r in carried(it) if 'too many' in r['text'] or 'limit' in r['text'] or 'budget' in r['text']], carried(it)[-1]


def test_attested_guesses_count_by_address_and_by_attester(instance):       # noqa: F811
    """An address has its budget, which does not stop another address; the attester has one over all."""
    it = instance()
    it.configure(f'[courier]\nattest = {os.geteuid()}\n[log]\nflood = 1000000\n')
    it.start('--workers', '1')

    def guess(n, ip):
        assert carried_code(it, as_req(nonce=n, proof=bytes([n % 256, n // 256]) * 30), address=socket.inet_aton(ip)) == 24

    def throttled(ip):
        it.wait(lambda: len(carried(it)) == asked)
        return [r['source'] for r in carried(it) if r['source'].startswith(ip + ' ') and is_throttled(r)]
    asked = 0
    for i in range(12):
        guess(i + 1, '192.0.2.7')
        asked += 1
    assert 0 < len(throttled('192.0.2.7')) < 12
    guess(100, '192.0.2.8')
    asked += 1
    assert throttled('192.0.2.8') == []
    for i in range(60):
        guess(200 + i, f'198.51.100.{i}')
        asked += 1
    assert len(throttled('198.51.100.59')) == 1


def is_throttled(r):
    return r.get('inner_name') == 'throttled' or 'too many' in r.get('text', '') or 'wait' in r.get('text', '')


# ---- processes ----

def test_the_courier_is_locked_up(kdc):     # noqa: F811
    status = pathlib.Path(f'/proc/{courier(kdc)}/status').read_text()
    for line in ('NoNewPrivs:\t1', 'Seccomp:\t2', 'CapEff:\t0000000000000000', 'CapPrm:\t0000000000000000'):
        assert line in status, (line, status)
    limits = pathlib.Path(f'/proc/{courier(kdc)}/limits').read_text()
    assert re.search(r'Max core file size\s+0\s+0', limits)


@as_root
def test_no_key_in_the_courier(instance, kinit):        # noqa: F811
    it = instance()
    keys = known_keys(it)
    it.start('--workers', '1')
    proxy = Proxy(it)
    proxy.start()
    kinit(proxy).ok()
    proxy.listener.close()
    assert {'master', 'alice 18', f'krbtgt/{REALM} 18'} <= scan(it.workers()[0], keys)
    assert scan(courier(it), keys) == set()
    # The scan reads that process: what went through is there.
    assert any(found({'realm': REALM.encode()}, area) for area in memory(courier(it)))
    fds = [os.readlink(f'/proc/{courier(it)}/fd/{n}') for n in os.listdir(f'/proc/{courier(it)}/fd')]
    assert not [f for f in fds if 'memfd' in f or 'accounts' in f], fds


def test_reload_under_load_drops_nothing(instance):     # noqa: F811
    it = instance()
    it.configure('[daemon]\nworkers = 2\n[log]\nflood = 10\n')
    it.start()
    first, ending, failed, asked = courier(it), threading.Event(), [], [0]

    def load(seed):
        with door(it) as s:
            n = seed
            while not ending.is_set():
                s.sendall(b''.join(carry(n + i, as_req(nonce=n + i)) for i in range(8)))
                for _ in range(8):
                    kind, _, fields = answer_on(s)
                    if kind != CARRIED or error_code(fields[T_MESSAGE]) != 25:
                        failed.append((kind, fields))
                n, asked[0] = n + 8, asked[0] + 8
    threads = [threading.Thread(target=load, args=(1 + i * 1000000,)) for i in range(3)]
    for t in threads:
        t.start()
    for i, workers in enumerate((2, 3, 1, 2, 1, 3, 2)):
        reload(it, f'[daemon]\nworkers = {workers}\n[log]\nflood = 10\n[courier]\nattest = {i + 1}\n')
        it.wait(lambda: len(it.workers()) == workers)
    ending.set()
    for t in threads:
        t.join(20)
    assert failed == [] and asked[0] > 100
    assert courier(it) == first
    assert it.stop() == 0


def status(it):
    told = json.loads(it.command('status', '--json').ok())
    return told['daemon']['courier']


def test_listen_yes_and_no(instance):       # noqa: F811
    it = instance()
    it.configure('[courier]\nlisten = no\n')
    it.start('--workers', '1')
    sock = it.run / 'courier.sock'
    assert not sock.exists() and courier(it) is None and status(it)['state'] == 'off'
    reload(it, '[courier]\nlisten = yes\n')
    it.wait(lambda: status(it)['state'] == 'ready')
    assert sock.stat().st_mode & 0o777 == 0o666 and status(it)['listening'] == str(sock)
    assert carried_code(it, as_req()) == 25
    reload(it, '[courier]\nlisten = no\n')
    it.wait(lambda: courier(it) is None)
    assert not sock.exists() and status(it)['state'] == 'off'
    reload(it, '[courier]\nlisten = yes\n')
    it.wait(lambda: status(it)['state'] == 'ready')
    assert carried_code(it, as_req(nonce=2)) == 25
    assert not it.records('worker-restart')


def test_the_end_answers_what_was_asked(kdc):       # noqa: F811
    with door(kdc) as s, door(kdc):
        s.sendall(b''.join(carry(i, as_req(nonce=i)) for i in range(1, 31)))
        answer_on(s)
        began = time.monotonic()
        os.kill(kdc.pid, signal.SIGTERM)
        assert {answer_on(s)[0] for _ in range(29)} == {CARRIED}
        assert s.recv(1) == b''
    assert kdc.server.process.wait(10) == 0 and time.monotonic() - began < 3
    assert not (kdc.run / 'courier.sock').exists()


# ---- the client that plugins use ----

HOST_ASK = BUILD / 'tests/host_ask'


def host_ask(it, *argv, root=None):
    return run([HOST_ASK, *argv], env=dict(os.environ, SALLYPORT_ROOT=str(root or it.root)))


def answers(text):
    return [error_code(bytes.fromhex(a)) for a in re.findall(r'^answer ([0-9a-f]+)$', text, re.M)]


def test_host_client(kdc):      # noqa: F811
    said = host_ask(kdc).ok()
    assert re.match(rf'realm {REALM} .*old-mit:0 finished-required:1$', said.strip())
    said = host_ask(kdc, REALM, as_req().hex(), '3').ok()       # three, one in a child, one more
    assert answers(said) == [25] * 5
    kdc.wait(lambda: carried(kdc))
    assert carried(kdc)[0]['acceptor'] == 'HTTP/nas1.test'
    assert 'refused 85' in host_ask(kdc, 'ELSEWHERE', as_req().hex(), '1').refused('refused')
    assert 'refused 40' in host_ask(kdc, REALM, ap_req().hex(), '1').refused('refused')


def test_host_client_outlives_the_courier(kdc):     # noqa: F811
    p = subprocess.Popen([str(HOST_ASK), REALM, as_req().hex(), '3', 'pause'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         text=True, env=dict(os.environ, SALLYPORT_ROOT=str(kdc.root)))
    said = p.stdout.readline()
    for _ in range(2):
        first = courier(kdc)
        os.kill(first, signal.SIGKILL)
        kdc.wait(lambda: courier(kdc) not in (None, first))
        p.stdin.write('\n')
        p.stdin.flush()
        said += p.stdout.readline()
    assert answers(said) == [25] * 3 and p.wait(10) == 0, said


def test_host_client_waits_no_longer_than_it_may(one):
    worker = one.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    text = host_ask(one, REALM, as_req().hex(), '1').refused('86')
    assert 4000 < int(re.search(r'after (\d+) ms', text)[1]) < 5100
    os.kill(courier(one), signal.SIGSTOP)
    text = host_ask(one, REALM, as_req().hex(), '1').refused('86')
    assert 4900 < int(re.search(r'after (\d+) ms', text)[1]) < 5200
    os.kill(courier(one), signal.SIGCONT)
    os.kill(worker, signal.SIGCONT)
    one.stop()
    text = host_ask(one, REALM, as_req().hex(), '1').refused('86')
    assert 'no daemon' in text and int(re.search(r'after (\d+) ms', text)[1]) < 100


def test_host_client_and_a_long_root(instance, home):       # noqa: F811
    it = instance(root=home / ('d' * 100) / ('e' * 100)).start('--workers', '1')
    assert answers(host_ask(it, REALM, as_req().hex(), '1').ok()) == [25] * 3
