# SPDX-License-Identifier: MIT
"""The courier's routes: two machines in network namespaces with a cable between them. One is an office with its KDC and
its relay, the other a laptop whose programs know nothing but a KDC on their own loopback."""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import harness
import test_daemon
from harness import HOST, OTHER_PASSWORD, PASSWORD, REALM, SALLYPORT, run
from test_daemon import (Instance, as_req, as_root, ask_stream, ask_udp, der, error_code, frame, integer, receive_frame)

pytestmark = as_root
CLONE_NEWNET = 0x40000000
OFFICE, RELAY_PORT, DOOR, METRICS = '192.0.2.2', 443, 1088, 1464
BELOW = 6     # seconds, on a machine that may be busy; without a courier it takes 18. tests/ladder_world.c holds the deadlines by its own clock
VOID = ['192.0.2.91', '192.0.2.92', '192.0.2.93']      # what is sent there is never heard of again


def libc(name, *words):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words) != 0:
        raise OSError(ctypes.get_errno(), name)


def ip(words):
    run(['ip', *words.split()]).ok()


class Network:
    """A network namespace; what is started or done inside `with network:` is in it."""

    def __init__(self):
        self.outside = os.open('/proc/self/ns/net', os.O_RDONLY)
        libc('unshare', CLONE_NEWNET)
        self.inside = os.open('/proc/self/ns/net', os.O_RDONLY)
        ip('link set lo up')
        libc('setns', self.outside, CLONE_NEWNET)

    def __enter__(self):
        libc('setns', self.inside, CLONE_NEWNET)
        return self

    def __exit__(self, *_):
        libc('setns', self.outside, CLONE_NEWNET)

    def close(self):
        os.close(self.inside)
        os.close(self.outside)


class Machine(Instance):
    """A sallyportd of a realm of its own, in a network."""

    def __init__(self, root, network, realm):
        self.root, self.network, self.realm, self.uid = pathlib.Path(root), network, realm, None
        self.port, self.kpasswd_port = 88, 464
        self.run, self.log = self.root / 'run/sallyport', self.root / 'sallyportd.log'
        self.sock, self.server = self.run / 'kdc.sock', None
        self.root.mkdir(parents=True)
        self.command('init', '--realm', realm).ok()

    def start(self, *more):
        with self.network:
            return super().start('--workers', '1', *more)

    def reload(self, text, file='test.conf'):
        before = len(self.records('reload'))
        self.configure(text, file)
        os.kill(self.pid, signal.SIGHUP)
        self.wait(lambda: len(self.records('reload')) == before + 1)

    def status(self):
        return json.loads(self.command('status', '--json').ok())['daemon']['courier']

    def routes(self, realm=REALM):
        return {r['target']: r for of in self.status()['realms'] if of['realm'] == realm for r in of['routes']}

    def exchanges(self, realm=REALM):
        """Records of the courier's own: what went through it to that realm."""
        return [r for r in self.records() if r.get('transport') in ('native', 'relay', 'in-band') and r['event'] != 'carry' and
                f'@{realm}' in r.get('service', f'@{realm}')]


def certificate(dir):
    """A CA, and a certificate of the office's with its key: (ca, chain, key)."""
    def openssl(*words):
        run(['openssl', *words], cwd=dir).ok()
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=Test CA',
            '-keyout', 'ca.key', '-out', 'ca.pem')
    (dir / 'names').write_text(f'subjectAltName = IP:{OFFICE}, DNS:relay.test\n')
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=relay.test', '-keyout', 'relay.key',
            '-out', 'relay.csr')
    openssl('x509', '-req', '-in', 'relay.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30', '-extfile',
            'names', '-out', 'relay.pem')
    for each in dir.iterdir():
        each.chmod(0o644)
    return dir / 'ca.pem', dir / 'relay.pem', dir / 'relay.key'


@pytest.fixture(scope='module')
def cable():
    """Two networks, and the name of the wire in the laptop's."""
    laptop, office = Network(), Network()
    with laptop:
        ip('link add wire type veth peer name far')
        run(['ip', 'link', 'set', 'far', 'netns', f'/proc/{os.getpid()}/fd/{office.inside}']).ok()
        ip('link set wire up')
        ip('address add 192.0.2.1/24 dev wire')
        for void in VOID:
            ip(f'neighbour add {void} lladdr 02:00:00:00:00:99 dev wire')
    with office:
        ip('link set far up')
        ip(f'address add {OFFICE}/24 dev far')
    yield laptop, office
    laptop.close()
    office.close()


@pytest.fixture(scope='module')
def office(cable, place, request):
    """The realm, its KDC on 88 and its relay on 443 of one address."""
    dir = place / f'office-{request.module.__name__}'
    dir.mkdir()
    (dir / 'tls').mkdir()
    it = Machine(dir / 'root', cable[1], REALM)
    it.ca, it.chain, it.key = certificate(dir / 'tls')
    it.command('account', 'add', 'alice', '--password-stdin', stdin=PASSWORD + '\n').ok()
    it.command('service', 'add', f'host/{HOST}').ok()
    it.relay = f'[relay]\nlisten = {OFFICE}:{RELAY_PORT}\ncertificate = {it.chain}\nkey = {it.key}\nrealms = {REALM}\n' \
               'open-per-second = 1000\n[log]\nflood = 1000000\n[kdc]\nguess-limits = no\n'
    it.configure(it.relay)
    it.start('--listen', f'{OFFICE}:88', '--listen-kpasswd', f'{OFFICE}:464')
    yield it
    assert it.stop() == 0


@pytest.fixture
def laptop(cable, office, home):
    """laptop(text of [realm TEST], more) is a machine that runs."""
    made = []

    def make(realm, more=''):
        it = Machine(home / f'root{len(made)}', cable[0], 'LAPTOP')
        made.append(it)
        it.head = f'[kdc]\nguess-limits = no\n[log]\nflood = 1000000\n[courier]\nlisten-kdc = 127.0.0.1:{DOOR}\nca-file = {office.ca}\n'
        it.configure(it.head + more + f'[realm {REALM}]\n{realm}')
        return it.start()
    yield make
    for each in made:
        if each.server:
            assert each.stop() == 0
            assert not each.records('worker-restart'), each.records('worker-restart')


@pytest.fixture
def kinit(cable, home):
    """A login and a service ticket by MIT's programs on the laptop; the seconds that it took."""
    harness.need_peer('mit')

    def go(password=PASSWORD, script=f'kinit alice && kvno host/{HOST}', realm=REALM):
        conf = home / 'krb5.conf'
        conf.write_text(f'[libdefaults]\n default_realm = {realm}\n dns_lookup_kdc = false\n rdns = false\n'
                        f' dns_canonicalize_hostname = false\n[realms]\n {realm} = {{\n  kdc = 127.0.0.1:{DOOR}\n'
                        f'  kpasswd_server = 127.0.0.1:{DOOR}\n }}\n[domain_realm]\n .test = {realm}\n')
        env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(conf), KRB5CCNAME=f'FILE:{home}/cc')
        began = time.monotonic()
        with cable[0]:
            done = run(harness.peer('mit', 'sh', '-c', script), stdin=password + '\n', env=env)
        done.took = time.monotonic() - began
        return done
    return go


# ---- ladders ----

def test_native(laptop, kinit):
    it = laptop(f'kdc = {OFFICE}\n')
    kinit().ok()
    it.wait(lambda: len(it.exchanges()) >= 3)
    for r in it.exchanges():
        assert (r['door'], r['transport'], r['source']) == ('loopback', 'native', f'uid {os.geteuid()}'), r
    assert {('as', 25), ('as', 0), ('tgs', 0)} <= {(r['event'], r['code']) for r in it.exchanges()}
    granted = [r for r in it.exchanges() if (r['event'], r['code']) == ('tgs', 0)][0]
    assert granted['service'] == f'host/{HOST}@{REALM}'
    route = it.routes()[f'{OFFICE}:88']
    assert route['state'] == 'alive' and route['rung'] == 'native' and route['answers'] >= 3 and 0 < route['latency_ms'] < 1000


def test_wrong_passwords_are_said_as_they_are(laptop, kinit):
    laptop(f'kdc = {OFFICE}\n')
    assert 'Password incorrect' in kinit(password='wrong-password').text


def test_88_is_dropped_and_443_is_open(laptop, kinit, office):
    it = laptop(f'kdc = {VOID[0]}\nrelay = https://{OFFICE}/KdcProxy\n')
    first = kinit()
    first.ok()
    assert first.took < BELOW, first.took     # one rung that was not known to be dead: below 1 s, and two programs' own time
    again = kinit()
    again.ok()
    assert again.took < BELOW, again.took
    it.wait(lambda: [r for r in it.exchanges() if r['event'] == 'tgs'])
    assert {r['transport'] for r in it.exchanges()} == {'relay'}
    assert 'native' in it.exchanges()[0]['text'], it.exchanges()[0]
    routes = it.routes()
    assert routes[f'https://{OFFICE}:443/KdcProxy']['state'] == 'alive'
    assert routes[f'{VOID[0]}:88']['state'] != 'alive' and routes[f'{VOID[0]}:88']['answers'] == 0
    assert {r['door'] for r in office.records() if r.get('source') == '192.0.2.1' and r['event'] == 'tgs'} >= {'courier'}


def test_the_first_of_three_kdcs_is_a_void(laptop, kinit):
    it = laptop(f'kdc = {VOID[0]} {OFFICE} {VOID[1]}\n')
    took = [kinit().took for _ in range(2) if not time.sleep(0.1)]
    it.wait(lambda: len([r for r in it.exchanges() if r['event'] == 'tgs']) == 2)
    assert max(took) < 1.5, took
    assert max(r['us'] for r in it.exchanges()) < 900000


def test_unplugged_and_back(laptop, kinit, cable):
    it = laptop(f'kdc = {OFFICE}\nrelay = https://{OFFICE}/KdcProxy\n')
    kinit().ok()
    with cable[0]:
        ip('link set wire down')
    try:
        down = kinit(script='kinit alice')
        assert down.code != 0 and down.took < BELOW, down.took
        it.wait(lambda: it.records('carry'))
        assert it.records('carry')[-1]['code'] == 86 and 'native' in it.records('carry')[-1]['text']
    finally:
        with cable[0]:
            ip('link set wire up')
            for void in VOID:
                ip(f'neighbour replace {void} lladdr 02:00:00:00:00:99 dev wire')
    time.sleep(0.6)     # netlink tells within 250 ms
    back = kinit()
    back.ok()
    assert back.took < BELOW, back.took


def test_no_way_at_all_is_said_in_time(laptop, kinit):
    it = laptop(f'kdc = {VOID[0]} {VOID[1]}\n')
    first = kinit(script='kinit alice')
    assert first.code != 0 and first.took < BELOW, first.took
    again = kinit(script='kinit alice')
    assert again.code != 0 and again.took < BELOW, again.took     # known to be dead, or just tried again
    it.wait(lambda: it.records('carry'))
    refused = it.records('carry')[0]
    assert (refused['door'], refused['code']) == ('loopback', 86) and VOID[0] in refused['text'], refused


def test_realms_that_are_not_configured_go_nowhere(laptop, kinit, cable):
    it = laptop(f'kdc = {OFFICE}\n')
    assert kinit(script='kinit alice@ELSEWHERE', realm='ELSEWHERE').code != 0
    it.wait(lambda: it.records('carry'))
    assert it.records('carry')[0]['code'] == 85


def test_a_realm_without_a_way_is_refused_and_holds_up_nothing(laptop, kinit):
    it = laptop(f'kdc = {OFFICE}\n[realm ONLY]\naliases = LONELY\n')
    assert kinit(script='kinit alice@ONLY', realm='ONLY').code != 0
    it.wait(lambda: it.records('carry'))
    assert it.records('carry')[0]['code'] == 85
    kinit().ok()


def test_own_realm_through_the_loopback_door(laptop, kinit):
    it = laptop(f'kdc = {OFFICE}\n')
    it.command('account', 'add', 'bob', '--password-stdin', stdin=PASSWORD + '\n').ok()
    kinit(script='kinit bob', realm='LAPTOP').ok()
    it.wait(lambda: [r for r in it.records('as') if r['code'] == 0])
    granted = [r for r in it.records('as') if r['code'] == 0][0]
    assert (granted['door'], granted['transport'], granted['client']) == ('courier', 'local', 'bob@LAPTOP')


def test_what_a_client_sends_does_not_kill_the_local_rung(laptop, cable, monkeypatch):
    """Neither a password change, which no worker takes here, nor a message that is too long for one."""
    laptop(f'kdc = {OFFICE}\n')
    monkeypatch.setattr(test_daemon, 'REALM', 'LAPTOP')
    ticket = der(0x61, der(0x30, der(0xa0, integer(5)) + der(0xa1, der(0x1b, b'LAPTOP')) +
                           der(0xa2, test_daemon.name(2, b'kadmin', b'changepw')) +
                           der(0xa3, der(0x30, der(0xa0, integer(18)) + der(0xa2, der(4, b'x' * 40))))))
    ap = der(0x6e, der(0x30, der(0xa0, integer(5)) + der(0xa1, integer(14)) + der(0xa2, der(3, b'\0' * 5)) + der(0xa3, ticket) +
                       der(0xa4, der(0x30, der(0xa0, integer(18)) + der(0xa2, der(4, b'x' * 40))))))
    private = der(0x75, der(0x30, der(0xa0, integer(5)) + der(0xa1, integer(21)) +
                            der(0xa3, der(0x30, der(0xa0, integer(18)) + der(0xa2, der(4, b'x' * 60))))))
    change = struct.pack('>HHH', 6 + len(ap) + len(private), 1, len(ap)) + ap + private
    long = as_req(padding=b'x' * (65538 + 60000 - len(as_req(padding=b'x' * 60000))))
    with cable[0]:
        assert error_code(ask_stream(('127.0.0.1', DOOR), change)) != 25
        assert error_code(ask_stream(('127.0.0.1', DOOR), long)) == 61
        assert error_code(ask_stream(('127.0.0.1', DOOR), as_req())) == 25


def test_both_transports_of_the_loopback_door(laptop, cable):
    laptop(f'kdc = {OFFICE}\n')
    with cable[0]:
        assert error_code(ask_udp(('127.0.0.1', DOOR), as_req())) == 25
        assert error_code(ask_stream(('127.0.0.1', DOOR), as_req())) == 25
        assert error_code(ask_stream(('127.0.0.1', DOOR), b'no message at all')) == 60


def test_a_password_change_through_the_loopback_door(laptop, office, cable, home, kinit):
    office.command('account', 'add', 'carol', '--password-stdin', stdin=PASSWORD + '\n').ok()
    laptop(f'kdc = {OFFICE}\n')
    kinit(script='kinit carol').ok()
    conf = home / 'krb5.conf'
    env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(conf), KRB5CCNAME=f'FILE:{home}/cc')
    with cable[0]:
        harness.converse(harness.peer('mit', 'kpasswd', 'carol'),
                         [('Password for', PASSWORD), ('new password', OTHER_PASSWORD), ('again', OTHER_PASSWORD)], env=env).ok()
    kinit(script='kinit carol', password=OTHER_PASSWORD).ok()


# ---- the relay's door ----

def kdc_proxy(message, realm=REALM.encode(), length=None, more=b''):
    inner = (len(message) if length is None else length).to_bytes(4, 'big') + message
    return der(0x30, der(0xa0, der(4, inner)) + (der(0xa1, der(0x1b, realm)) if realm is not None else b'') + more)


def post(office, cable, body, path='/KdcProxy', method='POST', head='Content-Type: application/kerberos\r\n', raw=None):
    """(status, body) of one request over TLS."""
    context = ssl.create_default_context(cafile=office.ca)
    with cable[0], socket.create_connection((OFFICE, RELAY_PORT), 10) as plain, \
            context.wrap_socket(plain, server_hostname=OFFICE) as s:
        s.sendall(raw or (f'{method} {path} HTTP/1.1\r\nHost: {OFFICE}\r\n{head}Content-Length: {len(body)}\r\n'
                          'Connection: close\r\n\r\n').encode() + body)
        said = b''
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            while chunk := s.recv(65536):
                said += chunk
    top, _, rest = said.partition(b'\r\n\r\n')
    return int(top.split()[1]), rest


def test_the_relay_answers(office, cable):
    status, body = post(office, cable, kdc_proxy(as_req(nonce=4242)))
    assert status == 200
    inner = body[body.index(b'\x7e') - 4:]
    assert int.from_bytes(inner[:4], 'big') == len(inner) - 4
    assert error_code(inner[4:]) == 25
    assert b'PREAUTH' not in inner      # P44: the KDC's words for people stay inside


HINT = der(0xa2, integer(0x40000000))
@pytest.mark.parametrize('what, want', [     # noqa: E302
    ('path', 404), ('method', 405), ('type', 415), ('empty', 400), ('length', 411), ('long', 413), ('realm', 403), ('address', 403),
    ('no realm', 400), ('outer', 400), ('short', 400), ('tail', 400), ('no request', 400), ('ap-req', 400), ('hint', 200)])
def test_what_the_relay_refuses(office, cable, what, want):
    good = kdc_proxy(as_req(nonce=7))
    status, body = {
        'path': lambda: post(office, cable, good, path='/other'),
        'method': lambda: post(office, cable, b'', method='GET'),
        'type': lambda: post(office, cable, good, head='Content-Type: text/html\r\n'),
        'empty': lambda: post(office, cable, b''),
        'length': lambda: post(office, cable, b'', raw=f'POST /KdcProxy HTTP/1.1\r\nHost: {OFFICE}\r\n\r\n'.encode()),
        'long': lambda: post(office, cable, b'', raw=f'POST /KdcProxy HTTP/1.1\r\nHost: {OFFICE}\r\nContent-Length: 200000\r\n\r\n'.encode()),
        'realm': lambda: post(office, cable, kdc_proxy(as_req(nonce=7), realm=b'ELSEWHERE')),
        'address': lambda: post(office, cable, kdc_proxy(as_req(nonce=7), realm=b'169.254.169.254')),
        'no realm': lambda: post(office, cable, kdc_proxy(as_req(nonce=7), realm=None)),
        'outer': lambda: post(office, cable, good + b'\0'),
        'short': lambda: post(office, cable, kdc_proxy(as_req(nonce=7), length=len(as_req(nonce=7)) - 3)),
        'tail': lambda: post(office, cable, kdc_proxy(as_req(nonce=7) + b'\0\0')),
        'no request': lambda: post(office, cable, kdc_proxy(b'no Kerberos at all')),
        'ap-req': lambda: post(office, cable, kdc_proxy(b'\x6e' + as_req(nonce=7)[1:])),
        'hint': lambda: post(office, cable, kdc_proxy(as_req(nonce=7), more=HINT)),
    }[what]()
    assert status == want, body


def test_requests_of_who_shows_nothing_are_few(office, cable):
    """Mode A: so many a second and no more."""
    office.reload(office.relay.replace('open-per-second = 1000', 'open-per-second = 2'))
    try:
        codes = [post(office, cable, kdc_proxy(as_req(nonce=100 + i)))[0] for i in range(12)]
    finally:
        office.reload(office.relay)
    assert 429 in codes and 4 <= codes.count(200) <= 8, codes


@pytest.mark.parametrize('stage, want', [('off', 403), ('audit', 200), ('on', 403)])
def test_staged_switch_of_the_relay(office, cable, stage, want):
    """Mode E, an armoured request or none, with the request that stock clients send first."""
    office.reload(f'[realm {REALM}]\nvia-relay = {stage}\nrelay-auth = armoured\n', file='stage.conf')
    try:
        status, _ = post(office, cable, kdc_proxy(as_req(nonce=len(stage))))
        assert status == want
        if stage == 'audit':
            office.wait(lambda: [r for r in office.records() if r.get('text', '').startswith('via-relay = audit')])
    finally:
        (office.root / 'etc/sallyport/conf.d/stage.conf').unlink()
        office.reload(office.relay)


def test_a_renewed_certificate_drops_nothing(office, cable):
    """A connection that is there goes on; the next one sees the other certificate."""
    context = ssl.create_default_context(cafile=office.ca)

    def connect():
        with cable[0]:
            return context.wrap_socket(socket.create_connection((OFFICE, RELAY_PORT), 10), server_hostname=OFFICE)

    def ask(s, nonce):
        body = kdc_proxy(as_req(nonce=nonce))
        s.sendall(f'POST /KdcProxy HTTP/1.1\r\nHost: {OFFICE}\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body)
        return int(s.recv(65536).split()[1])
    with connect() as old:
        assert ask(old, 501) == 200
        run(['openssl', 'x509', '-req', '-in', 'relay.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30',
             '-extfile', 'names', '-out', 'relay.pem'], cwd=office.chain.parent).ok()
        before = old.getpeercert()['serialNumber']
        office.reload(office.relay)
        time.sleep(0.2)
        assert ask(old, 502) == 200
        with connect() as fresh:
            assert ask(fresh, 503) == 200
            assert fresh.getpeercert()['serialNumber'] != before


def test_a_key_that_does_not_fit_is_refused_while_the_old_one_serves(office, cable):
    wrong = office.chain.parent / 'ca.key'
    office.reload(office.relay.replace(str(office.key), str(wrong)))
    office.wait(lambda: office.records('worker-failed'))
    assert 'before stays' in office.records('worker-failed')[-1]['text']
    assert post(office, cable, kdc_proxy(as_req(nonce=601)))[0] == 200
    office.reload(office.relay)


def test_a_password_change_through_the_relay(laptop, office, cable, home, kinit):
    """Off by default (P45); where it is allowed, a stock kpasswd changes a password over 443."""
    office.command('account', 'add', 'dave', '--password-stdin', stdin=PASSWORD + '\n').ok()
    laptop(f'relay = https://{OFFICE}/KdcProxy\n')
    kinit(script='kinit dave').ok()
    env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(home / 'krb5.conf'), KRB5CCNAME=f'FILE:{home}/cc')
    words = [('Password for', PASSWORD), ('new password', OTHER_PASSWORD), ('again', OTHER_PASSWORD)]

    def change():
        with cable[0]:
            return harness.converse(harness.peer('mit', 'kpasswd', 'dave'), words, env=env)
    assert change().code != 0
    with reloaded(office, office.relay + f'[relay]\nkpasswd = yes\n[realm {REALM}]\nkdc = {OFFICE}\nladder = native\n'):
        change().ok()
    kinit(script='kinit dave', password=OTHER_PASSWORD).ok()


@contextlib.contextmanager
def reloaded(it, text):
    """Another configuration for a while; the one of before is it.relay."""
    it.reload(text)
    try:
        yield
    finally:
        it.reload(it.relay)


def user_certificate(dir):
    run(['openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=alice', '-keyout',
         'alice.key', '-out', 'alice.csr'], cwd=dir).ok()
    run(['openssl', 'x509', '-req', '-in', 'alice.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30', '-out',
         'alice.pem'], cwd=dir).ok()
    both = dir / 'alice-both.pem'
    both.write_text((dir / 'alice.pem').read_text() + (dir / 'alice.key').read_text())
    both.chmod(0o644)
    return both


def test_client_certificates(laptop, office, cable, kinit):
    """Mode D: without one 403 and no way; with one a login."""
    both = user_certificate(office.chain.parent)
    with reloaded(office, office.relay + f'[relay]\nclient-ca = {office.ca}\nauth = certificate\n'):
        assert post(office, cable, kdc_proxy(as_req(nonce=701)))[0] == 403
        it = laptop(f'relay = https://{OFFICE}/KdcProxy\n')
        assert kinit(script='kinit alice').code != 0
        it.wait(lambda: it.records('carry'))
        assert '403' in it.records('carry')[0]['text'], it.records('carry')[0]
        it.reload(it.head + f'[courier]\nclient-certificate = {both}\n[realm {REALM}]\nrelay = https://{OFFICE}/KdcProxy\n')
        it.wait(lambda: it.status()['state'] == 'ready')
        time.sleep(1.2)     # another courier, within a second
        kinit().ok()


@pytest.mark.parametrize('kind', ['socket', 'port'])
def test_behind_a_proxy(office, cable, home, kind):
    """TLS ends at the proxy, and the address that it forwards is the one that counts; from nobody else."""
    sock = office.run / 'relay.sock'
    where = str(sock) if kind == 'socket' else '127.0.0.1:8080'
    trusted = 'unix' if kind == 'socket' else '127.0.0.1'

    def ask(nonce, head):
        body = kdc_proxy(as_req(nonce=nonce))
        with office.network:
            if kind == 'port':
                s = socket.create_connection(('127.0.0.1', 8080), 10)
            else:
                s = socket.socket(socket.AF_UNIX)
                link = home / 's'
                if not link.is_symlink():
                    link.symlink_to(sock)
                s.connect(str(link))
        with s:
            s.sendall(f'POST /KdcProxy HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n'.encode() + body)
            return int(s.recv(65536).split()[1])

    def source(nonce, head, trust):
        office.reload(office.relay + f'[relay]\nplain-listen = {where}\n' + (f'trusted-proxies = {trusted}\n' if trust else ''))
        before = len(office.records('as'))
        assert ask(nonce, head) == 200
        office.wait(lambda: len(office.records('as')) > before)
        return office.records('as')[-1]['source']
    try:
        assert source(801, 'X-Forwarded-For: 203.0.113.9\r\n', True) == '203.0.113.9'
        assert source(802, 'X-Forwarded-For: 203.0.113.9\r\n', False) != '203.0.113.9'
    finally:
        office.reload(office.relay)
    assert not sock.exists()


class Names(threading.Thread):
    """A name server in the office for what is in it; the rest does not exist. `asked` is what it heard."""

    def __init__(self, network, records):
        super().__init__(daemon=True)
        self.records, self.asked = records, []
        with network:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((OFFICE, 53))
        self.socket.settimeout(0.1)
        self.ending = False
        self.start()

    def stop(self):
        self.ending = True
        self.join()
        self.socket.close()

    @staticmethod
    def label(name):
        return b''.join(bytes([len(w)]) + w.encode() for w in name.rstrip('.').split('.')) + b'\0'

    def data(self, kind, value):
        if kind == 1:
            return socket.inet_aton(value)
        if kind == 33:
            return struct.pack('>HHH', *value[:3]) + self.label(value[3])
        return struct.pack('>HH', *value[:2]) + value[2].encode()     # URI

    def run(self):
        while not self.ending:
            try:
                query, peer = self.socket.recvfrom(2048)
            except socket.timeout:
                continue
            end = query.index(b'\0', 12) + 1
            name, at = [], 12
            while query[at]:
                name.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, kind = '.'.join(name).lower(), struct.unpack('>H', query[end:end + 2])[0]
            self.asked.append((name, kind))
            found = self.records.get((name, kind), [])
            known = any(n == name for n, _ in self.records)
            head = query[:2] + (b'\x81\x80' if known else b'\x81\x83') + struct.pack('>HHHH', 1, len(found), 0, 0)
            answers = b''.join(b'\xc0\x0c' + struct.pack('>HHIH', kind, 1, 60, len(d)) + d
                               for d in (self.data(kind, v) for v in found))
            self.socket.sendto(head + query[12:end + 4] + answers, peer)


@pytest.fixture
def names(cable):
    made = []

    def make(records):
        made.append(Names(cable[1], records))
        return made[-1]
    yield make
    for each in made:
        each.stop()


A, SRV, URI = 1, 33, 256


def test_names_are_looked_up(laptop, names, kinit):
    dns = names({('kdc.office.test', A): [OFFICE]})
    laptop('kdc = kdc.office.test\n', f'[courier]\nresolver = {OFFICE}:53\n')
    kinit().ok()
    kinit().ok()
    assert [q for q in dns.asked if q == ('kdc.office.test', A)] == [('kdc.office.test', A)]     # once, and kept


@pytest.mark.parametrize('how', ['srv', 'uri', 'uri-srv'])
def test_kdcs_are_found_where_it_is_configured(laptop, names, kinit, how):
    dns = names({('_kerberos._udp.test', SRV): [(0, 0, 88, 'kdc.office.test')], ('_kerberos._tcp.test', SRV): [(0, 0, 88, 'kdc.office.test')],
                 ('_kerberos.test', URI): [(10, 1, 'krb5srv:m:udp:kdc.office.test')], ('kdc.office.test', A): [OFFICE]})
    it = laptop(f'discover = {how}\n', f'[courier]\nresolver = {OFFICE}:53\n')
    kinit().ok()
    assert it.routes()['kdc.office.test:88']['found'] is True
    assert {kind for _, kind in dns.asked if kind != A} & {SRV if how == 'srv' else URI}
    assert {n for n, _ in dns.asked} <= {'_kerberos._udp.test', '_kerberos._tcp.test', '_kerberos.test', 'kdc.office.test'}


def test_p41_names_do_not_lead_to_loopback(laptop, names, kinit):
    names({('kdc.office.test', A): ['127.0.0.1']})
    it = laptop('kdc = kdc.office.test\n', f'[courier]\nresolver = {OFFICE}:53\n')
    assert kinit(script='kinit alice').code != 0
    assert it.routes()['kdc.office.test:88']['answers'] == 0


class Sniffer:
    """Every packet on the laptop's wire meanwhile."""

    def __init__(self, network):
        with network:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(('wire', 0))
            self.socket.setblocking(False)

    def ip_packets(self):
        seen = []
        with contextlib.suppress(BlockingIOError):
            while packet := self.socket.recv(65536):
                seen.append(packet)
        return [p for p in seen if p[12:14] == b'\x08\x00']


STRANGE = [b'169.254.169.254', b'127.0.0.1', b'2130706433', b'[::1]', b'localhost', b'TEST:445', b'ELSEWHERE.EXAMPLE', b'192.0.2.2', b'..',
           b'TEST%00', b'x' * 200]


def test_t101_nothing_leaves_for_a_realm_that_is_not_configured(laptop, office, cable):
    """An open relay would look these up, or connect. Ours answers, and the wire is silent; then, that the wire is heard."""
    it = laptop(f'kdc = {OFFICE}\n', '[relay]\nplain-listen = 127.0.0.1:8081\n[courier]\nresolver = 192.0.2.2:53\n')
    sniffer = Sniffer(cable[0])
    with contextlib.closing(sniffer.socket):
        for i, realm in enumerate(STRANGE):
            body = kdc_proxy(as_req(nonce=900 + i), realm=realm)
            with cable[0], socket.create_connection(('127.0.0.1', 8081), 10) as s:
                s.sendall(f'POST /KdcProxy HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body)
                assert 400 <= int(s.recv(65536).split()[1]) < 500, realm
            message = as_req(nonce=900 + i).replace(b'\x1b\x04TEST', b'\x1b\x04' + realm[-4:].rjust(4, b'X'))
            with cable[0]:
                ask_udp(('127.0.0.1', DOOR), message)
        time.sleep(0.3)
        assert sniffer.ip_packets() == []
        with cable[0]:
            ask_udp(('127.0.0.1', DOOR), as_req(nonce=999))
        assert sniffer.ip_packets() != []
    assert len(it.records('carry')) >= 2 * len(STRANGE)


def test_services_reach_other_realms(laptop, office, cable, home):
    """What an acceptor hands on for a realm of [iakerb] realms takes that realm's way."""
    it = laptop(f'kdc = {OFFICE}\n', f'[iakerb]\nrealms = {REALM}\n')
    link = home / 'c'
    link.symlink_to(it.run / 'courier.sock')

    def ask(message):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(link))
            s.sendall(frame(b'\1\1\0\0\0\7\1\0' + bytes([len(REALM)]) + REALM.encode() + b'\2' + len(message).to_bytes(2, 'big') + message))
            return receive_frame(s)
    said = ask(as_req(nonce=1001))
    assert said[1] == 2 and error_code(said[said.index(b'\x7e'):]) == 25
    it.wait(lambda: it.exchanges())
    assert (it.exchanges()[0]['door'], it.exchanges()[0]['transport']) == ('courier', 'native')


# ---- what can be seen of it ----

def test_status_in_words(laptop, kinit):
    it = laptop(f'kdc = {VOID[0]}\nrelay = https://{OFFICE}/KdcProxy\n')
    kinit().ok()
    said = it.command('status').ok()
    assert re.search(rf'relay +https://{re.escape(OFFICE)}:443/KdcProxy +alive', said), said
    assert re.search(rf'native +{re.escape(VOID[0])}:88 +(dead|not tried)', said), said
    assert f'127.0.0.1:{DOOR} (loopback)' in said


def test_the_locator_is_told(laptop):
    it = laptop(f'kdc = {OFFICE}\naliases = CORP\n')
    file = (it.run / 'locate').read_bytes()
    assert file.startswith(b'SPLOCATE') and b'TEST' in file and b'CORP' in file and b'LAPTOP' in file
    assert bytes([127, 0, 0, 1]) + DOOR.to_bytes(2, 'big') in file
    it.reload(it.head + f'[realm OTHER]\nkdc = {OFFICE}\n')
    file = (it.run / 'locate').read_bytes()
    assert b'OTHER' in file and b'TEST' not in file
    assert it.stop() == 0
    assert not (it.run / 'locate').exists()


def test_long_answers_are_fetched_by_tcp(laptop, kinit):
    """Error 52 over UDP, as from a KDC; a stock client comes back by TCP."""
    laptop(f'kdc = {OFFICE}\n', '[kdc]\nudp-reply-max = 512\n')
    said = kinit(script=f'kinit alice >&2 && KRB5_TRACE=/dev/stdout kvno host/{HOST}').ok()
    assert 'Initiating TCP connection' in said and 'too big for UDP' in said, said


def test_unknown_fields_at_the_relay_are_said_once(office, cable):
    for i in range(3):
        assert post(office, cable, kdc_proxy(as_req(nonce=1100 + i), more=der(0xa7, integer(5))))[0] == 200
    office.wait(lambda: [r for r in office.records() if 'are ignored' in r.get('text', '')])
    assert len([r for r in office.records() if 'are ignored' in r.get('text', '')]) == 1


def scrape(cable, path='/metrics'):
    with cable[0], socket.create_connection(('127.0.0.1', METRICS), 10) as s:
        s.sendall(f'GET {path} HTTP/1.1\r\nHost: x\r\n\r\n'.encode())
        said = b''
        while chunk := s.recv(65536):
            said += chunk
    top, _, body = said.decode().partition('\r\n\r\n')
    return int(top.split()[1]), body


def test_metrics(laptop, kinit, cable):
    laptop(f'kdc = {OFFICE}\n', f'[metrics]\nlisten = 127.0.0.1:{METRICS}\n')
    kinit().ok()
    status, body = scrape(cable)
    assert status == 200
    found = re.search(r'^sallyport_courier_seconds_count\{door="loopback",route="native",realm="TEST",result="ok"\} (\d+)$', body, re.M)
    assert found and int(found[1]) == 2, body       # a TGT and a service ticket
    buckets = [int(n) for n in re.findall(r'_bucket\{door="loopback",route="native",realm="TEST",result="ok",le="[^"]*"\} (\d+)', body)]
    assert buckets == sorted(buckets) and buckets[-1] == 2
    assert f'sallyport_courier_route_up{{realm="TEST",route="native",target="{OFFICE}:88"}} 1' in body
    assert scrape(cable, '/other')[0] == 404


def test_metrics_on_a_unix_socket(laptop, home):
    it = laptop(f'kdc = {OFFICE}\n', f'[metrics]\nlisten = {home}/m.sock\n')
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.relpath(home / 'm.sock'))
        s.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
        assert b'sallyport_courier_in_flight 0' in s.recv(65536)
    assert (home / 'm.sock').stat().st_mode & 0o777 == 0o660
    it.reload(it.head + f'[realm {REALM}]\nkdc = {OFFICE}\n')
    assert not (home / 'm.sock').exists()


def test_the_courier_may_connect_and_nothing_more(laptop):
    it = laptop(f'kdc = {OFFICE}\n')
    pid = int(subprocess.run(['pgrep', '-x', '-P', str(it.pid), 'sallyport-cour'], capture_output=True, text=True, check=True).stdout)
    said = pathlib.Path(f'/proc/{pid}/status').read_text()
    for line in ('NoNewPrivs:\t1', 'Seccomp:\t2', 'CapEff:\t0000000000000000', 'CapPrm:\t0000000000000000'):
        assert line in said


def test_a_reload_changes_the_routes(laptop, kinit):
    it = laptop(f'kdc = {VOID[0]}\n')
    assert kinit(script='kinit alice').code != 0
    it.reload(it.head + f'[realm {REALM}]\nkdc = {OFFICE}\n')
    kinit().ok()
    assert list(it.routes()) == [f'{OFFICE}:88']


@pytest.mark.parametrize('text, why', [
    ('[realm A]\nkdc = 999.1.1.1\n', ':2: "999.1.1.1" is neither'), ('[realm A]\nladder = relay\n', 'nowhere to go by it'),
    ('[courier]\nlisten-kdc = 0.0.0.0:88\n', ':2: 0.0.0.0:88 is not an address of loopback'),
    ('[relay]\nlisten = 0.0.0.0:443\n', 'wants a certificate')])
def test_config_check_says_where(home, text, why):
    (home / 'etc/sallyport').mkdir(parents=True)
    (home / 'etc/sallyport/sallyport.conf').write_text(text)
    assert why in run([SALLYPORT, 'config', 'check', '--root', home]).refused('sallyport|wants|nowhere')
    shown = run([SALLYPORT, 'config', 'show', '--root', home])
    assert shown.code != 0 or 'realm A' in shown.text or '[relay]' in text
