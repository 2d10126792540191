# SPDX-License-Identifier: MIT
"""Mode C of the relay: clients that can reach nothing but its HTTPS door prove themselves there with HTTP Negotiate, IAKERB
as a rule, and what they prove is good for that connection alone."""
import argparse
import base64
import hashlib
import http.client
import json
import os
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
from harness import BUILD, HOST, PASSWORD, REALM, SALLYPORT, WRONG_PASSWORD, Server, free_port, need_peer, peer, run
from test_daemon import as_req, der, error_code

PLUGIN = BUILD / 'src/plugin/mech_sallyport.so'
OWN_OID = '1.3.6.1.4.1.32473.88.5'
POST = {'Content-Type': 'application/kerberos'}


def certificate(dir, name, names):
    """NAME.pem and NAME.key, from the CA in ca.pem; its hash, which has no zero byte, so that it can stand on a command line."""
    def openssl(*words):
        run(['openssl', *words], cwd=dir).ok()
    if not (dir / 'ca.pem').exists():
        openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=Test CA',
                '-keyout', 'ca.key', '-out', 'ca.pem')
    (dir / 'names').write_text(f'subjectAltName = {names}\n')
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', f'/CN={name}', '-keyout', f'{name}.key',
            '-out', f'{name}.csr')
    while True:
        openssl('x509', '-req', '-in', f'{name}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30', '-extfile',
                'names', '-out', f'{name}.pem')
        end_point = hashlib.sha256(ssl.PEM_cert_to_DER_cert((dir / f'{name}.pem').read_text())).digest()
        if 0 not in end_point:
            return end_point


class RelayRealm(harness.SallyportRealm):
    """A realm behind its relay, which takes clients that have proven themselves, and no others."""
    more = ''

    def start(self):
        super().start()
        self.server.stop()
        self.relay, self.plain = free_port(), free_port()
        self.end_point = certificate(self.dir, 'relay', f'IP:127.0.0.1, DNS:{HOST}')
        self.ca, self.url = self.dir / 'ca.pem', f'https://127.0.0.1:{self.relay}/KdcProxy'
        (self.root / 'etc/sallyport/conf.d/relay.conf').write_text(
            f'[relay]\nlisten = 127.0.0.1:{self.relay}\ncertificate = {self.dir}/relay.pem\nkey = {self.dir}/relay.key\n'
            f'plain-listen = 127.0.0.1:{self.plain}\nrealms = {REALM}\nauth = negotiate\n[log]\nflood = 1000000\n')
        self.server = Server(self.server.argv, self.server.log, self.relay)

    def said(self, event):
        lines = [json.loads(line) for line in self.records().read_text().splitlines()]
        return [r for r in lines if r['event'] == event]

    def wait_for(self, code, text='', client=None):
        for _ in range(100):
            found = [r for r in self.said('negotiate')[self.before:] if r['code'] == code and text in r.get('text', '') and
                     client in (None, r.get('client'))]
            if found:
                return found[-1]
            time.sleep(0.05)
        pytest.fail(f'no record of {client} with {code} and "{text}": {self.said("negotiate")[-5:]}')


@pytest.fixture(scope='module')
def behind(place):
    dir = place / 'relay-c'
    dir.mkdir()
    dir.chmod(0o755)
    it = RelayRealm(dir, generous=True)
    for host in HOST, 'elsewhere.test':
        it.service_add(f'HTTP/{host}')
    it.service_add(f'host/{HOST}')
    (dir / 'mech.conf').write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
    yield it
    it.close()


@pytest.fixture
def user(behind):
    behind.before = len(behind.said('negotiate'))
    return behind.user()


class Web:
    """One connection to the relay."""

    def __init__(self, behind):
        self.https = http.client.HTTPSConnection('127.0.0.1', behind.relay, timeout=10,
                                                 context=ssl.create_default_context(cafile=behind.ca))

    def ask(self, method, body=None, **fields):
        self.https.request(method, '/KdcProxy', body, {**fields, **(POST if body else {})})
        answer = self.https.getresponse()
        answer.content = answer.read()
        answer.word = answer.getheader('WWW-Authenticate', '')
        return answer

    def token(self, token, method='GET', body=None):
        answer = self.ask(method, body, Authorization='Negotiate ' + base64.b64encode(token).decode())
        answer.token = base64.b64decode(answer.word[10:]) if answer.word.startswith('Negotiate ') else b''
        return answer


def kdc_proxy(message, realm=REALM.encode()):
    return der(0x30, der(0xa0, der(4, struct.pack('>I', len(message)) + message)) + der(0xa1, der(0x1b, realm)))


def carried(answer):
    """The code of a KRB-ERROR that the relay carried back."""
    assert answer.status == 200, (answer.status, answer.word)
    return error_code(answer.content[answer.content.index(b'\x7e'):])


class Bridge:
    """`sallyport gss connect` speaks frames on TCP; here they become HTTP on one connection to the relay."""

    def __init__(self, behind, last=None):
        self.web, self.answers, self.last = Web(behind), [], last
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        s, _ = self.listener.accept()
        with s:
            while head := s.recv(4, socket.MSG_WAITALL):
                frame = s.recv(struct.unpack('>I', head)[0], socket.MSG_WAITALL)
                if self.answers and self.answers[-1].status == 200:
                    return      # the message that it wants echoed
                answer = self.web.token(frame) if not self.last else self.web.token(frame, 'POST', self.last)
                self.answers.append(answer)
                if not answer.token:
                    return
                s.sendall(struct.pack('>I', len(answer.token)) + answer.token)

    def connect(self, user, *words, service=f'HTTP/{HOST}', password=PASSWORD):
        who = ['--user', f'{user}@{REALM}', '--password-stdin'] if user else []
        return run([SALLYPORT, 'gss', 'connect', f'127.0.0.1:{self.port}', '--service', service, *who, *words], stdin=password + '\n')

    def statuses(self):
        return [a.status for a in self.answers]


# ---- who has shown nothing ----

def test_nothing_is_carried_for_nobody(behind):
    web = Web(behind)
    answer = web.ask('POST', kdc_proxy(as_req()))
    assert (answer.status, answer.word) == (401, 'Negotiate')
    answer = web.ask('GET')
    assert (answer.status, answer.word) == (401, 'Negotiate')
    assert web.token(b'no token of any mechanism').status == 401
    assert web.ask('GET', Authorization='Negotiate !!!').status == 401
    assert web.ask('GET', Authorization='Basic YTpi').status == 401


def test_not_behind_a_proxy_that_ends_tls(behind):
    """There one connection is many clients', and what one of them proved would be good for all."""
    web = Web(behind)
    web.https = http.client.HTTPConnection('127.0.0.1', behind.plain, timeout=10)
    answer = web.ask('POST', kdc_proxy(as_req()))
    assert (answer.status, answer.word) == (403, '')
    answer = web.token(b'any', 'POST', kdc_proxy(as_req()))
    assert (answer.status, answer.word) == (403, '')
    assert web.ask('GET').status == 405


# ---- a login that needs nothing but the door ----

def test_login_through_the_relay(behind, user, home):
    told = run([SALLYPORT, 'login', f'{user}@{REALM}', '--via', behind.url, '--ca', behind.ca, '--cache', f'FILE:{home}/cc', '--password-stdin',
                '--json'], stdin=PASSWORD + '\n').ok()
    assert json.loads(told)['ticket'] == f'krbtgt/{REALM}@{REALM}'
    run([SALLYPORT, 'login', f'{user}@{REALM}', '--via', behind.url, '--ca', behind.ca, '--cache', f'FILE:{home}/cc', '--password-stdin'],
        stdin=WRONG_PASSWORD + '\n').refused('wrong password or key')


# ---- proof ----

@pytest.mark.parametrize('mech', ['iakerb', 'spnego'])
def test_what_is_proven_is_good_for_the_connection(behind, user, mech):
    bridge = Bridge(behind)
    bridge.connect(user, '--mech', mech)
    assert bridge.statuses()[-1] == 200 and set(bridge.statuses()[:-1]) == {401}, bridge.statuses()
    assert behind.wait_for(0, client=f'{user}@{REALM}')['door'] == 'relay'
    assert carried(bridge.web.ask('POST', kdc_proxy(as_req(b'nobody-of-this-name')))) == 25
    assert carried(bridge.web.ask('POST', kdc_proxy(as_req(b'nobody-of-this-name', nonce=2)))) == 25
    assert Web(behind).ask('POST', kdc_proxy(as_req())).status == 401, 'and for no other'


def test_a_request_comes_along_with_the_last_token(behind, user):
    bridge = Bridge(behind, kdc_proxy(as_req(b'nobody-of-this-name', nonce=3)))
    bridge.connect(user, '--mech', 'spnego')
    assert carried(bridge.answers[-1]) == 25
    assert set(bridge.statuses()[:-1]) == {401}


def test_any_worker_goes_on_with_it(behind, user):
    """SPNEGO's last token is a MIC, under a key that the token before it gave away; whoever gave it is dead when it comes."""
    bridge = Bridge(behind)
    take = bridge.web.token

    def token(t):
        if len(bridge.answers) == 4:
            for pid in run(['pgrep', '-x', '-P', str(behind.server.process.pid), 'sallyport-kdc']).ok().split():
                os.kill(int(pid), signal.SIGKILL)
        return take(t)
    bridge.web.token = token
    said = bridge.connect(user, '--mech', 'spnego')
    assert bridge.statuses() == [401] * 4 + [200], said.text
    assert carried(bridge.web.ask('POST', kdc_proxy(as_req(b'nobody-of-this-name')))) == 25


def test_a_wrong_password(behind, user):
    bridge = Bridge(behind)
    bridge.connect(user, password=WRONG_PASSWORD).refused('wrong password')
    assert 200 not in bridge.statuses()


def test_a_ticket_for_another_host(behind, user):
    """Else whoever serves that host could show it here."""
    bridge = Bridge(behind)
    bridge.connect(user, '--mech', 'iakerb', service='HTTP/elsewhere.test')
    assert set(bridge.statuses()) == {401}
    behind.wait_for(35, 'which the certificate here is not for', f'{user}@{REALM}')
    bridge = Bridge(behind)
    bridge.connect(user, '--mech', 'iakerb', service=f'host/{HOST}')
    assert set(bridge.statuses()) == {401}


class Stock:
    """A connection by `openssl s_client`, which tells what RFC 9266 exports from it."""

    def __init__(self, behind):
        self.exported = b'\0'
        while 0 in self.exported:       # it has to stand on a command line
            self.process = subprocess.Popen(
                ['openssl', 's_client', '-connect', f'127.0.0.1:{behind.relay}', '-CAfile', str(behind.ca), '-verify_return_error', '-tls1_3',
                 '-nocommands', '-keymatexport', 'EXPORTER-Channel-Binding', '-keymatexportlen', '32'],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            said = b''
            while b'Keying material: ' not in said or not said.endswith(b'---\n'):
                said += self.process.stdout.readline()
            self.exported = bytes.fromhex(re.search(rb'Keying material: ([0-9A-F]+)', said)[1].decode())

    def token(self, token):
        self.process.stdin.write(b'GET /KdcProxy HTTP/1.1\r\nHost: x\r\nAuthorization: Negotiate ' + base64.b64encode(token) + b'\r\n\r\n')
        self.process.stdin.flush()
        line = b''
        while not line.startswith(b'HTTP/1.1 '):        # what it says of session tickets comes between
            line = self.process.stdout.readline()
        answer, word = argparse.Namespace(status=int(line.split()[1]), token=b''), b''
        while line := self.process.stdout.readline().rstrip(b'\r\n'):
            word = line[28:] if line.startswith(b'WWW-Authenticate: Negotiate ') else word
        answer.token = base64.b64decode(word)
        return answer


@pytest.mark.parametrize('what', ['end point', 'another end point', 'exporter', 'exporter of another'])
def test_bindings(behind, user, home, what):
    """A GSS-API program with our mechanism, bound to the channel that it saw (RFC 5929, RFC 9266), or to another."""
    conf = home / 'krb5.conf'
    conf.write_text(f'[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n')
    bridge = Bridge(behind)
    bridge.web = Stock(behind) if 'exporter' in what else bridge.web
    seen = {'end point': lambda: b'tls-server-end-point:' + behind.end_point,
            'another end point': lambda: b'tls-server-end-point:' + behind.end_point[::-1],
            'exporter': lambda: b'tls-exporter:' + bridge.web.exported,
            'exporter of another': lambda: b'tls-exporter:' + Stock(behind).exported}[what]()
    said = run([BUILD / 'tests/gss_api', 'connect', str(bridge.port), f'HTTP@{HOST}', f'user={user}', f'password={PASSWORD}',
                'bindings=' + seen.decode('utf-8', 'surrogateescape')],
               env=dict(LC_ALL='C.UTF-8', PATH='/usr/bin:/bin', HOME=str(home), KRB5CCNAME=f'FILE:{home}/cc', KRB5_CONFIG=str(conf),
                        GSS_MECH_CONFIG=str(behind.dir / 'mech.conf')))
    assert bridge.statuses()[-1:] == [401 if 'another' in what else 200], said.text
    if 'another' in what:
        behind.wait_for(60, 'the client saw another channel')


def test_an_authenticator_is_good_once(behind, user, home):
    """A ticket that is there already makes for one token, which somebody could have seen elsewhere."""
    cache = f'FILE:{home}/cc'
    for words in ['login', f'{user}@{REALM}', '--kdc', f'127.0.0.1:{behind.port}', '--cache', cache, '--service', f'HTTP/{HOST}'],:
        run([SALLYPORT, *words, '--password-stdin'], stdin=PASSWORD + '\n').ok()
    bridge = Bridge(behind)
    seen = []
    take = bridge.web.token
    bridge.web.token = lambda token, *more: seen.append(token) or take(token, *more)
    bridge.connect(None, '--mech', 'krb5', '--cache', cache)
    assert bridge.statuses() == [200], bridge.statuses()
    again = Web(behind)
    assert again.token(seen[0]).status == 401
    assert again.ask('POST', kdc_proxy(as_req())).status == 401
    behind.wait_for(34, 'seen before')


def test_conversations_do_not_mix(behind, user):
    """The last token of one connection's conversation proves nothing on another one."""
    bridge, other = Bridge(behind), Web(behind)
    seen = []
    take = bridge.web.token
    bridge.web.token = lambda token, *more: seen.append(token) or take(token, *more)
    bridge.connect(user, '--mech', 'iakerb')
    assert bridge.statuses()[-1] == 200
    for token in seen:
        assert other.token(token).status == 401
    assert other.ask('POST', kdc_proxy(as_req())).status == 401


# ---- a stock client with our mechanism ----

def test_curl(behind, user, home):
    need_peer('mit')
    conf = home / 'krb5.conf'
    conf.write_text(f'[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n dns_canonicalize_hostname = false\n')
    env = dict(LC_ALL='C', PATH='/usr/bin:/bin', HOME=str(home), KRB5CCNAME=f'FILE:{home}/cc', GSS_MECH_CONFIG=str(behind.dir / 'mech.conf'))
    run(peer('mit', 'kinit', user), stdin=PASSWORD + '\n', env=dict(env, KRB5_CONFIG=str(behind.krb5_conf()))).ok()
    text = run(peer('mit', 'curl', '-sS', '-i', '--noproxy', '*', '--resolve', f'{HOST}:{behind.relay}:127.0.0.1', '--cacert', behind.ca,
                    '--negotiate', '-u', ':', f'https://{HOST}:{behind.relay}/KdcProxy'), env=dict(env, KRB5_CONFIG=str(conf))).ok()
    assert '200 OK' in text, text
    behind.wait_for(0, client=f'{user}@{REALM}')
