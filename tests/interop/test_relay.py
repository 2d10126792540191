# SPDX-License-Identifier: MIT
"""The relay's door as peers of other make see it: MIT's own HTTPS client, Debian's python3-kdcproxy on either side, nginx and
HAProxy in front; and what an attacker may send it (T101, T103, T104, T106, T108 to T110). The machines are those of test_routes."""
import contextlib
import http.client
import os
import random
import re
import signal
import socket
import struct
import subprocess
import time

import pytest

import harness
from harness import HOST, OTHER_PASSWORD, PASSWORD, REALM, Server, peer, run
from test_daemon import as_req, as_root, contents, der, error_code, integer, name
from test_doctor import Stand
from test_routes import (OFFICE, RELAY_PORT, Machine, cable, certificate, ip, kdc_proxy, kinit, laptop, office, post,  # noqa: F401
                         reloaded, user_certificate)

pytestmark = as_root
LAPTOP, FRONT = '192.0.2.1', 8443
CASES = int(os.environ.get('SALLYPORT_RELAY_CASES', '10000'))     # T110: 10^6 in slow runs
TYPE = {'Content-Type': 'application/kerberos'}


# ---- stock clients that know nothing but a URL ----

class Stock:
    """MIT's programs on the laptop, with krb5-k5tls and no daemon of ours in between."""

    def __init__(self, cable, office, home):        # noqa: F811
        harness.need_peer('mit')
        self.network, self.ca, self.home, self.conf = cable[0], office.ca, home, home / 'stock.conf'
        self.env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(self.conf), KRB5CCNAME=f'FILE:{home}/stock-cc',
                        KRB5_TRACE=str(home / 'trace'))
        self.point(f'https://{OFFICE}:{RELAY_PORT}/KdcProxy')

    def point(self, url, realm=REALM):
        self.conf.write_text(f'[libdefaults]\n default_realm = {realm}\n dns_lookup_kdc = false\n rdns = false\n'
                             f' dns_canonicalize_hostname = false\n[realms]\n {realm} = {{\n  http_anchors = FILE:{self.ca}\n  kdc = {url}\n'
                             f'  kpasswd_server = {url}\n }}\n[domain_realm]\n .test = {realm}\n')

    def sh(self, script, password=PASSWORD, timeout=60, **env):
        with self.network:
            return run(peer('mit', 'sh', '-c', script), stdin=password + '\n', env=dict(self.env, **env), timeout=timeout)

    def login(self, user='alice'):
        return self.sh(f'kinit {user} && kvno host/{HOST}')

    def kpasswd(self, user):
        words = [('Password for', PASSWORD), ('new password', OTHER_PASSWORD), ('again', OTHER_PASSWORD)]
        with self.network:
            return harness.converse(peer('mit', 'kpasswd', user), words, env=self.env)

    def traced(self):
        return (self.home / 'trace').read_text(errors='replace')


@pytest.fixture
def stock(cable, office, home):     # noqa: F811
    return Stock(cable, office, home)


def through(it, seen, **like):
    """Records of decisions since then that look like that."""
    return [r for r in it.records()[seen:] if r['event'] in ('as', 'tgs', 'kpasswd') and all(r.get(k) == v for k, v in like.items())]


def test_stock_programs(stock, office):     # noqa: F811
    seen = len(office.records())
    stock.login().ok()
    assert f'Sending HTTPS request to https {OFFICE}:443' in stock.traced(), stock.traced()
    office.wait(lambda: through(office, seen, event='tgs', source=LAPTOP))
    assert 'Password incorrect' in stock.sh('kinit alice', password='wrong').refused('Password incorrect')
    assert f'{HOST}' in stock.sh('klist').ok()


def test_stock_programs_are_refused_where_they_should_be(stock, office, home):     # noqa: F811
    stock.point(f'https://{OFFICE}:{RELAY_PORT}/other')
    stock.sh('kinit alice').refused('Cannot contact any KDC')
    stock.point(f'https://{OFFICE}:{RELAY_PORT}/KdcProxy', realm='ELSEWHERE')
    stock.sh('kinit alice').refused('Cannot contact any KDC')
    (home / 'nobody').mkdir()
    stock.ca = certificate(home / 'nobody')[0]
    stock.point(f'https://{OFFICE}:{RELAY_PORT}/KdcProxy')
    stock.sh('kinit alice').refused('Cannot contact any KDC')


def test_stock_password_changes(stock, office):     # noqa: F811
    """T108: off unless the configuration says otherwise (P45)."""
    office.command('account', 'add', 'erin', '--password-stdin', stdin=PASSWORD + '\n').ok()
    stock.kpasswd('erin').refused('')
    stock.sh('kinit erin').ok()
    with reloaded(office, office.relay + f'[relay]\nkpasswd = yes\n[realm {REALM}]\nkdc = {OFFICE}\nladder = native\n'):
        stock.kpasswd('erin').ok()
    stock.sh('kinit erin', password=OTHER_PASSWORD).ok()


# ---- python3-kdcproxy: theirs before our KDC, our client before theirs ----

@pytest.fixture
def kdcproxy(cable, office, home):      # noqa: F811
    """URL of Debian's kdcproxy in the office, our daemon behind it."""
    harness.need_peer('kdcproxy')
    (home / 'kdcproxy.conf').write_text(f'[global]\nconfigs = mit\nuse_dns = false\n[{REALM}]\nkerberos = kerberos+tcp://{OFFICE}:88\n'
                                        f'kpasswd = kpasswd+tcp://{OFFICE}:464\n')
    port = 9443
    env = dict(os.environ, KDCPROXY_CONFIG=str(home / 'kdcproxy.conf'))
    env.pop('KRB5_CONFIG', None)
    with cable[1]:
        it = Server(peer('kdcproxy', 'gunicorn', '-b', f'0.0.0.0:{port}', '--certfile', office.chain, '--keyfile', office.key,
                         'kdcproxy:application'), home / 'gunicorn.log', port, env=env)
    yield f'https://{OFFICE}:{port}/KdcProxy'
    it.stop()


def test_their_relay_before_our_kdc(stock, office, kdcproxy):       # noqa: F811
    office.command('account', 'add', 'fred', '--password-stdin', stdin=PASSWORD + '\n').ok()
    stock.point(kdcproxy)
    stock.login('fred').ok()
    stock.kpasswd('fred').ok()
    stock.sh('kinit fred', password=OTHER_PASSWORD).ok()


def test_our_route_through_their_relay(laptop, office, kinit, kdcproxy):        # noqa: F811
    it = laptop(f'relay = {kdcproxy}\n')
    kinit().ok()
    kinit(password='wrong-password').refused('Password incorrect')
    it.wait(lambda: len(it.exchanges()) >= 3)
    assert {r['transport'] for r in it.exchanges()} == {'relay'}
    assert it.routes()[kdcproxy.replace('/KdcProxy', '/KdcProxy')]['state'] == 'alive'


def test_our_route_and_a_realm_that_their_relay_has_not(laptop, office, kinit, kdcproxy):       # noqa: F811
    it = laptop(f'relay = {kdcproxy}\n', f'[realm ELSEWHERE]\nrelay = {kdcproxy}\n')
    kinit(script='kinit alice@ELSEWHERE', realm='ELSEWHERE').refused('Cannot|KDC')
    it.wait(lambda: it.records('carry'))
    kinit().ok()


# ---- behind nginx and HAProxy; several side by side ----

def nginx(home, office, backends):      # noqa: F811
    servers = ' '.join(f'server {b if b[0] != "/" else "unix:" + b} max_fails=1 fail_timeout=1s;' for b in backends)
    (home / 'nginx.conf').write_text(f'''daemon off;
user root;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/nginx.error;
events {{ worker_connections 256; }}
http {{
 access_log off;
 client_body_temp_path {home}/body;
 proxy_temp_path {home}/proxy;
 fastcgi_temp_path {home}/fastcgi;
 uwsgi_temp_path {home}/uwsgi;
 scgi_temp_path {home}/scgi;
 upstream relays {{ {servers} keepalive 8; }}
 server {{
  listen {OFFICE}:{FRONT} ssl;
  ssl_certificate {office.chain};
  ssl_certificate_key {office.key};
  location /KdcProxy {{
   proxy_pass http://relays;
   proxy_http_version 1.1;
   proxy_set_header Connection "";
   proxy_set_header Host $host;
   proxy_set_header X-Forwarded-For $remote_addr;
   proxy_next_upstream error timeout non_idempotent;
  }}
 }}
}}
''')
    return peer('kdcproxy', 'nginx', '-c', home / 'nginx.conf')


def haproxy(home, office, backends):        # noqa: F811
    both = home / 'front.pem'
    both.write_text(office.chain.read_text() + office.key.read_text())
    servers = ''.join(f'  server relay{i} {"unix@" + b if b[0] == "/" else b} check inter 200ms fall 1\n' for i, b in enumerate(backends))
    (home / 'haproxy.cfg').write_text(f'''defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
  option forwardfor
  option redispatch
  retry-on conn-failure empty-response
  retries 3
frontend front
  bind {OFFICE}:{FRONT} ssl crt {both}
  default_backend relays
backend relays
  balance roundrobin
{servers}''')
    return peer('kdcproxy', 'haproxy', '-db', '-f', home / 'haproxy.cfg')


FRONTS = {'nginx': nginx, 'haproxy': haproxy}


def end_front(it):
    """All of it: what stands between is tools/peers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(it.pid, signal.SIGTERM)
    it.wait(10)


def start_front(cable, office, home, kind, backends):       # noqa: F811
    """A proxy on FRONT of the office, once it listens."""
    harness.need_peer('kdcproxy')
    with cable[1]:
        it = subprocess.Popen(FRONTS[kind](home, office, backends), stdout=open(home / 'front.log', 'wb'), stderr=subprocess.STDOUT,
                              start_new_session=True)
        for _ in range(400):
            with contextlib.suppress(OSError):
                socket.create_connection((OFFICE, FRONT), 1).close()
                return it
            time.sleep(0.05)
    end_front(it)
    pytest.fail((home / 'front.log').read_text())


@pytest.fixture
def front(cable, office, home):     # noqa: F811
    """front(kind, backends) is a proxy on FRONT of the office; the URL."""
    made = []

    def make(kind, backends):
        made.append(start_front(cable, office, home, kind, backends))
        return f'https://{OFFICE}:{FRONT}/KdcProxy'
    yield make
    for each in made:
        end_front(each)


@pytest.mark.parametrize('kind', FRONTS)
@pytest.mark.parametrize('how', ['socket', 'port'])
def test_behind_a_stock_proxy(office, cable, stock, front, kind, how):      # noqa: F811
    """TLS ends at the proxy; the record has the client's address, whatever the client says of itself."""
    where = str(office.run / 'front.sock') if how == 'socket' else '127.0.0.1:8080'
    trusted = 'unix' if how == 'socket' else '127.0.0.1'
    with reloaded(office, office.relay + f'[relay]\nplain-listen = {where}\ntrusted-proxies = {trusted}\n'):
        stock.point(front(kind, [where]))
        seen = len(office.records())
        stock.login().ok()
        office.wait(lambda: through(office, seen, event='tgs', source=LAPTOP))
        seen = len(office.records())
        status, body = ask_front(cable, office, kdc_proxy(as_req(nonce=random.getrandbits(30))), {'X-Forwarded-For': '203.0.113.66'})
        # nginx puts its word in the place of the client's. HAProxy adds a line of its own, and of two lines none is believed.
        assert status == (200 if kind == 'nginx' else 400)
        if status == 200:
            assert error_code(body[body.index(b'\x7e'):]) == 25
            office.wait(lambda: through(office, seen, event='as'))
        assert {r['source'] for r in through(office, seen)} <= {LAPTOP}
        assert ask_front(cable, office, kdc_proxy(as_req(nonce=3), realm=b'ELSEWHERE'))[0] == 403


def ask_front(cable, office, body, head=(), method='POST', path='/KdcProxy'):       # noqa: F811
    import ssl
    context = ssl.create_default_context(cafile=office.ca)
    with cable[0]:
        c = http.client.HTTPSConnection(OFFICE, FRONT, context=context, timeout=15)
        c.connect()
    c.request(method, path, body, {**TYPE, **dict(head)})
    answer = c.getresponse()
    said = answer.read()
    c.close()
    return answer.status, said


@pytest.fixture
def second(cable, office, home):        # noqa: F811
    """Another relay beside the office's: a machine of another realm, whose KDC for this one is the office's."""
    it = Machine(home / 'second', cable[1], 'SECOND')
    it.argv = lambda *more: [harness.SALLYPORTD, '--root', it.root, '--foreground', '--listen', '127.0.0.1:8888', '--listen-kpasswd',
                             '127.0.0.1:8464', *more]
    it.configure(f'[relay]\nplain-listen = 127.0.0.1:8081\ntrusted-proxies = 127.0.0.1\nrealms = {REALM}\nopen-per-second = 1000\n'
                 f'[log]\nflood = 1000000\n[realm {REALM}]\nkdc = {OFFICE}\n')
    it.port = 8888
    it.start()
    yield it
    if it.server.process.poll() is None:
        assert it.stop() == 0


@pytest.mark.parametrize('kind', FRONTS)
def test_side_by_side(office, second, cable, stock, front, kind):       # noqa: F811
    """No relay remembers anything that the next request needs; one of two ends, and logins go on."""
    with reloaded(office, office.relay + '[relay]\nplain-listen = 127.0.0.1:8080\ntrusted-proxies = 127.0.0.1\n'):
        stock.point(front(kind, ['127.0.0.1:8080', '127.0.0.1:8081']))
        before = len(second.exchanges())
        for _ in range(4):
            stock.login().ok()
        second.wait(lambda: len(second.exchanges()) > before + 2)
        assert {r['source'] for r in second.exchanges()} == {LAPTOP} and {r['transport'] for r in second.exchanges()} == {'native'}
        direct = [r for r in office.records() if r.get('source') == LAPTOP and r['event'] in ('as', 'tgs')]
        assert len(direct) > 2
        assert second.stop() == 0
        for _ in range(4):
            stock.login().ok()


# ---- modes D and E ----

def curl(cable, office, body, home, *options, port=RELAY_PORT):      # noqa: F811
    (home / 'body').write_bytes(body)
    with cable[0]:
        done = subprocess.run([str(a) for a in ('curl', '-sS', '--cacert', office.ca, '--data-binary', f'@{home}/body', '-H',
                                                'Content-Type: application/kerberos', '-o', home / 'answer', '-w', '%{http_code}', *options,
                                                f'https://{OFFICE}:{port}/KdcProxy')], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return int(done.stdout), (home / 'answer').read_bytes() if (home / 'answer').exists() else b''


def test_mode_d_by_curl(office, cable, home):       # noqa: F811
    user_certificate(office.chain.parent)
    dir = office.chain.parent
    (home / 'nobody').mkdir()
    certificate(home / 'nobody')
    with reloaded(office, office.relay + f'[relay]\nclient-ca = {office.ca}\nauth = certificate\n'):
        assert curl(cable, office, kdc_proxy(as_req(nonce=2001)), home)[0] == 403
        status, body = curl(cable, office, kdc_proxy(as_req(nonce=2002)), home, '--cert', dir / 'alice.pem', '--key', dir / 'alice.key')
        assert status == 200 and error_code(body[body.index(b'\x7e'):]) == 25
        with pytest.raises(AssertionError):     # somebody else's authority: TLS itself ends, or the answer is no
            status, _ = curl(cable, office, kdc_proxy(as_req(nonce=2003)), home, '--cert', home / 'nobody/relay.pem', '--key',
                             home / 'nobody/relay.key')
            assert status == 200


def with_padata(kind, nonce=3000):
    """An AS-REQ with one padata of that type."""
    body = dict(contents(dict(contents(as_req(nonce=kind + nonce)))[0x6a]))[0x30]
    fields = dict(contents(body))
    padata = der(0xa3, der(0x30, der(0x30, der(0xa1, integer(kind)) + der(0xa2, der(4, b'\x30\x00')))))
    return der(0x6a, der(0x30, der(0xa1, fields[0xa1]) + der(0xa2, fields[0xa2]) + padata + der(0xa4, fields[0xa4])))


@pytest.mark.parametrize('kind, status', [(136, 200), (16, 200), (2, 403), (138, 403), (149, 403)])
def test_mode_e(office, cable, kind, status):       # noqa: F811
    """Armoured (FAST) or PKINIT, by what the request has; whether it is any good is for the KDC to say."""
    with reloaded(office, office.relay + '[relay]\nauth = armoured\n'):
        assert post(office, cable, kdc_proxy(with_padata(kind)))[0] == status


def test_modes_side_by_side(office, cable, home):       # noqa: F811
    """One that is shown is enough."""
    user_certificate(office.chain.parent)
    dir = office.chain.parent
    with reloaded(office, office.relay + f'[relay]\nclient-ca = {office.ca}\nauth = certificate armoured\n'):
        assert curl(cable, office, kdc_proxy(as_req(nonce=2101)), home)[0] == 403
        assert curl(cable, office, kdc_proxy(with_padata(136)), home)[0] == 200
        assert curl(cable, office, kdc_proxy(as_req(nonce=2102)), home, '--cert', dir / 'alice.pem', '--key', dir / 'alice.key')[0] == 200


def test_mode_e_with_a_stock_client_and_a_stock_kdc(office, cable, stock, place):       # noqa: F811
    """FAST of MIT's own: without armour no way, with it a login; tickets of the TGS need none."""
    dir = place / 'fast'
    dir.mkdir()
    with cable[1]:
        mit = harness.MitRealm(dir)
        mit.account_add('armour', PASSWORD)
        mit.account_add('gwen', PASSWORD)
        mit.service_add(f'host/{HOST}')
    way = f'[realm {REALM}]\nkdc = 127.0.0.1:{mit.port}\nladder = native\n'
    try:
        with reloaded(office, office.relay + way):
            stock.sh(f'kinit -c {stock.home}.armour armour').ok()
            office.reload(office.relay + way + '[relay]\nauth = armoured\n')
            stock.sh('kinit gwen').refused('Cannot contact any KDC')
            stock.sh(f'kinit -T {stock.home}.armour gwen && kvno host/{HOST}').ok()
            assert 'FAST negotiation: available' in stock.traced() or 'Using FAST due to armor ccache' in stock.traced()
    finally:
        mit.close()


@pytest.mark.parametrize('mode', ['certificate', 'armoured'])
def test_modes_d_and_e_keep_no_state(office, second, cable, laptop, kinit, home, mode):     # noqa: F811
    """Two relays that end TLS themselves behind HAProxy, which only joins connections: whichever is met, it is the same."""
    user_certificate(office.chain.parent)
    both = office.chain.parent / 'alice-both.pem'
    terms = f'client-ca = {office.ca}\nauth = {mode}\n'
    second.reload(f'[relay]\nlisten = {OFFICE}:4433\ncertificate = {office.chain}\nkey = {office.key}\nrealms = {REALM}\n{terms}'
                  f'[log]\nflood = 1000000\n[realm {REALM}]\nkdc = {OFFICE}\n')
    (home / 'tcp.cfg').write_text(f'''defaults
  mode tcp
  timeout connect 2s
  timeout client 10s
  timeout server 10s
listen front
  bind {OFFICE}:{FRONT}
  balance roundrobin
  server one {OFFICE}:{RELAY_PORT}
  server two {OFFICE}:4433
''')
    with cable[1]:
        it = subprocess.Popen(peer('kdcproxy', 'haproxy', '-db', '-f', home / 'tcp.cfg'), start_new_session=True)
    try:
        office.reload(office.relay + f'[relay]\n{terms}')
        time.sleep(0.5)
        if mode == 'certificate':
            laptop(f'relay = https://{OFFICE}:{FRONT}/KdcProxy\n', f'[courier]\nclient-certificate = {both}\n')
            for _ in range(4):
                kinit().ok()
        shown = ['--cert', both] if mode == 'certificate' else []
        seen = len(second.exchanges()), len(office.records('as'))
        for i in range(6):      # three a turn, so that both relays see each kind
            for k in 0, 1:
                request = as_req(nonce=8000 + 2 * i + k) if mode == 'certificate' else with_padata(136, 9000 + 2 * i + k)
                assert curl(cable, office, kdc_proxy(request), home, *shown, port=FRONT)[0] == 200
            assert curl(cable, office, kdc_proxy(as_req(nonce=8100 + i)), home, port=FRONT)[0] == 403
        second.wait(lambda: len(second.exchanges()) - seen[0] >= 2)
        assert len(office.records('as')) - seen[1] >= 2
    finally:
        end_front(it)
        office.reload(office.relay)


# ---- what an attacker sends ----

class Wire:
    """Every packet of a network's interfaces meanwhile."""

    def __init__(self, network):
        with network:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.setblocking(False)

    def calls(self):
        """(source, target, protocol, port) of TCP calls and UDP datagrams that were sent."""
        seen = set()
        with contextlib.suppress(BlockingIOError):
            while packet := self.socket.recv(65536):
                if packet[12:14] != b'\x08\x00':
                    continue
                ip = packet[14:]
                at = (ip[0] & 15) * 4
                ends = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
                if ip[9] == 17 or (ip[9] == 6 and ip[at + 13] & 0x12 == 2):     # SYN without ACK
                    seen.add((*ends, ip[9], struct.unpack('>H', ip[at + 2:at + 4])[0]))
        self.socket.close()
        return seen


ODD = [b'169.254.169.254', b'127.0.0.1', b'2130706433', b'0x7f.1', b'[::1]', b'::ffff:127.0.0.1', b'localhost', b'TEST:445', b'test:88',
       b'TEST.', b'.TEST', b'TEST%2e', b'T\0E\0S\0T\0', b'TEST\0', b'TEST@ELSEWHERE', b'krbtgt/TEST', b'ELSEWHERE.EXAMPLE', b'192.0.2.2',
       b'kdc.office.test', b'http://127.0.0.1/', b'\xff\xfeT', '\u0422EST'.encode(), b'', b'x' * 255, b'x' * 5000]


def test_t101_nothing_leaves(office, cable, stock):       # noqa: F811
    """The relay of the office: target-domains that an open relay would look up or connect to, and a stock client's realm that is not
    configured. Only the relay's own port is ever called, on any wire; then the same wire shows what is carried."""
    with reloaded(office, office.relay + f'[realm FAR]\nkdc = 192.0.2.99\nladder = native\nvia-relay = on\n'):
        wire = Wire(cable[1])
        for realm in ODD:
            status, _ = post(office, cable, kdc_proxy(as_req(nonce=random.getrandbits(30)), realm=realm))
            assert 400 <= status < 500, realm
        stock.point(f'https://{OFFICE}:{RELAY_PORT}/KdcProxy', realm='NOT.CONFIGURED')
        stock.sh('kinit alice').refused('Cannot contact any KDC')
        time.sleep(0.2)
        calls = {(target, protocol, port) for _, target, protocol, port in wire.calls()}
        assert calls == {(OFFICE, 6, RELAY_PORT)}, calls
        with cable[1]:
            ip('neighbour replace 192.0.2.99 lladdr 02:00:00:00:00:99 dev far')
        wire = Wire(cable[1])
        post(office, cable, kdc_proxy(realm_of(as_req(nonce=77), b'FAR'), realm=b'FAR'))
        assert {c[1:] for c in wire.calls()} & {('192.0.2.99', 17, 88), ('192.0.2.99', 6, 88)}


def realm_of(message, realm):
    """The same AS-REQ for a realm of another length."""
    body = dict(contents(dict(contents(message))[0x6a]))[0x30]
    fields = dict(contents(body))
    inner = dict(contents(dict(contents(fields[0xa4]))[0x30]))
    inner[0xa2] = der(0x1b, realm)
    inner[0xa3] = name(2, b'krbtgt', realm)
    return der(0x6a, der(0x30, der(0xa1, fields[0xa1]) + der(0xa2, fields[0xa2]) +
                         der(0xa4, der(0x30, b''.join(der(t, v) for t, v in inner.items())))))


def test_the_realm_inside_is_the_realm_outside(office, cable):        # noqa: F811
    """A message for another realm than its envelope says does not pass as the envelope's."""
    status, body = post(office, cable, kdc_proxy(realm_of(as_req(nonce=78), b'ELSEWHERE')))
    assert status == 403, (status, body)
    assert post(office, cable, kdc_proxy(realm_of(as_req(nonce=79), REALM.encode())))[0] == 200


@pytest.mark.parametrize('first', [0x6b, 0x6d, 0x6e, 0x6f, 0x74, 0x75, 0x76, 0x7e, 0x30, 0x00, 0xff])
def test_t103_what_is_no_request(office, cable, first):     # noqa: F811
    assert post(office, cable, kdc_proxy(bytes([first]) + as_req(nonce=first)[1:]))[0] == 400


def kpasswd(sname, realm=REALM, version=1, length=None, rest=b''):
    """A password change with a ticket of that service, as far as a relay can see it."""
    data = der(0x30, der(0xa0, integer(18)) + der(0xa2, der(4, b'x' * 64)))
    ticket = der(0x61, der(0x30, der(0xa0, integer(5)) + der(0xa1, der(0x1b, realm.encode())) + der(0xa2, name(2, *sname)) + der(0xa3, data)))
    ap = der(0x6e, der(0x30, der(0xa0, integer(5)) + der(0xa1, integer(14)) + der(0xa2, der(3, b'\0\0\0\0\0')) + der(0xa3, ticket) +
                       der(0xa4, data)))
    priv = der(0x75, der(0x30, der(0xa0, integer(5)) + der(0xa1, integer(21)) + der(0xa3, data)))
    n = 6 + len(ap) + len(priv) if length is None else length
    return struct.pack('>HHH', n, version, len(ap)) + ap + priv + rest


def test_t103_t108_password_changes(office, cable):     # noqa: F811
    """Off: 400. On: with a ticket for changing passwords only, for realms that carry them, whole and alone."""
    right = [b'kadmin', b'changepw']
    for version in (1, 0xff80):
        assert post(office, cable, kdc_proxy(kpasswd(right, version=version)))[0] == 400
    with reloaded(office, office.relay + f'[relay]\nkpasswd = yes\n[realm {REALM}]\nkdc = {OFFICE}\nladder = native\n'):
        for sname in ([b'krbtgt', REALM.encode()], [b'host', HOST.encode()], [b'kadmin', b'admin'], [b'changepw'], right + [b'x']):
            assert post(office, cable, kdc_proxy(kpasswd(sname)))[0] == 403, sname
        assert post(office, cable, kdc_proxy(kpasswd(right, version=2)))[0] == 400
        assert post(office, cable, kdc_proxy(kpasswd(right, length=9)))[0] == 400
        assert post(office, cable, kdc_proxy(kpasswd(right, rest=b'\0')))[0] == 400
        status, body = post(office, cable, kdc_proxy(kpasswd(right)))
        assert status == 200 and b'\x7e' in body, (status, body)       # the KDC's own refusal: no such ticket of it
    with reloaded(office, office.relay + f'[relay]\nkpasswd = yes\n[realm {REALM}]\nkdc = {OFFICE}\nladder = native\nkpasswd = no\n'):
        assert post(office, cable, kdc_proxy(kpasswd(right)))[0] in (400, 403)


@pytest.mark.parametrize('off', [-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 1000, -1000, 2**31, 2**32 - 1])
def test_t104_lengths(office, cable, off):      # noqa: F811
    message = as_req(nonce=4000 + off % 1000)
    assert post(office, cable, kdc_proxy(message, length=(len(message) + off) % 2**32))[0] == 400


def test_t104_cut_and_more(office, cable):      # noqa: F811
    body = kdc_proxy(as_req(nonce=4999))
    for n in (0, 1, 2, 3, 4, 5, 6, len(body) // 2, len(body) - 6, len(body) - 1):
        assert post(office, cable, body[:n])[0] == 400, n
    for more in (b'\0', b'\0\0', b'\x30\0', body):
        assert post(office, cable, body + more)[0] == 400, more


SECRET = b'internal-host-42'


@pytest.mark.parametrize('said', [
    b'HTTP/1.1 200 OK\r\n\r\n' + SECRET, SECRET, b'\x6b\x82\x01\x00' + SECRET, b'\x7e\x03\x30\x01' + SECRET, b'\x6a' + SECRET * 3, SECRET * 3000,
    as_req(client=SECRET)], ids=['http', 'text', 'cut', 'error', 'request', 'long', 'echo'])
def test_t106_a_kdc_that_is_none(office, cable, said):      # noqa: F811
    liar = Stand(cable[1], lambda: said)
    try:
        with reloaded(office, office.relay + f'[realm LIAR]\nkdc = {OFFICE}:{liar.port}\nvia-relay = on\n'):
            status, body = post(office, cable, kdc_proxy(realm_of(as_req(nonce=501), b'LIAR'), realm=b'LIAR'))
            assert status == 502 and SECRET not in body, (status, body)
    finally:
        liar.close()


def test_t109_hints_and_unknown_fields(office, cable):      # noqa: F811
    """dclocator-hint of every shape that its type allows, and fields of later versions."""
    for i, hint in enumerate((0, 1, 0x40000000, 0x1000, 0x7fffffff, 0xffffffff)):
        assert post(office, cable, kdc_proxy(as_req(nonce=6000 + i), more=der(0xa2, integer(hint))))[0] == 200, hint
    for i, more in enumerate((der(0xa3, der(4, b'later')), der(0xa2, integer(1)) + der(0xa9, der(0x30, b'')))):
        assert post(office, cable, kdc_proxy(as_req(nonce=6100 + i), more=more))[0] == 200, more
    for more in (der(0xa2, der(4, b'x')), der(0xa2, b''), b'\xa2'):
        assert post(office, cable, kdc_proxy(as_req(nonce=6200), more=more))[0] == 400, more


# ---- T110 ----

METHODS = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT', 'PATCH', 'PROPFIND', 'post', 'POST ', 'POST', 'P\x00ST', 'X' * 40]
PATHS = ['/', '/KdcProxy', '/kdcproxy/x', '/KdcProxy/../etc/passwd', '//KdcProxy', '/KdcProxy?', '/KdcProxy?realm=x', '/KdcProxy#a', '/%4bdcProxy',
         '/KdcProxy%00', '/KdcProxy\\', 'KdcProxy', '*', '', 'http://127.0.0.1/KdcProxy', 'https://169.254.169.254/latest', 'http://x/', 'ftp://x/',
         'http://user@x/KdcProxy', 'x:443', '/' + 'a' * 9000, '/\x7f', '/\xff', '/KdcProxy HTTP/1.1\r\nX: y']
HOSTS = ['Host: x', '', 'Host: x\r\nHost: y', 'Host: ', 'Host: a b', 'Host: x:99999', 'Host: [::1', 'Host : x', 'Host\t: x', 'Host: x\0',
         'Host: http://x/', 'Host: ' + 'h' * 9000, ' Host: x', 'Host: x@y']
VERSIONS = ['HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'HTTP/1.11', 'HTTP/0.9', 'http/1.1', 'HTTP/1.1 ', '', 'HTTP/11']
LENGTHS = ['Content-Length: 0', 'Content-Length: 5', 'Content-Length: +5', 'Content-Length: 5, 5', 'Content-Length: 5\r\nContent-Length: 6',
           'Content-Length: -1', 'Content-Length: 99999999999999999999', 'Content-Length: 0x5', 'Transfer-Encoding: chunked',
           'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: identity', '']
ENDS = ['\r\n\r\n', '\n\n', '\r\n \r\n\r\n', '\r\n\r\n\r\n', '\r\r\n\r\n']


def odd_request(rng):
    """A request of which at least the body is none of ours: nothing can come of it but 4xx."""
    method, path, version = rng.choice(METHODS), rng.choice(PATHS), rng.choice(VERSIONS)
    lines = [rng.choice(HOSTS), rng.choice(LENGTHS)]
    rng.shuffle(lines)
    head = f'{method} {path} {version}\r\n' + '\r\n'.join(line for line in lines if line) + rng.choice(ENDS)
    raw = bytearray(head.encode('latin-1') + b'hello')
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw)


def answers_to(path, raw):
    """Every status that came until the connection ended, or it became clear that more is waited for."""
    said = b''
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(3)
        s.connect(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(raw)
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError, socket.timeout):
            while chunk := s.recv(65536):
                said += chunk
    return [int(status) for status in re.findall(rb'^HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r$', said, re.M)]


def test_t110_requests_that_are_none(office, cable, home):        # noqa: F811
    """4xx (or 505) only, or nothing where the request never ended; and the door goes on."""
    sock = office.run / 'fuzz.sock'
    with reloaded(office, office.relay.replace('[log]\nflood = 1000000\n', '[log]\nflood = 100\n') + f'[relay]\nplain-listen = {sock}\n'):
        link = home / 'f'
        link.symlink_to(sock)
        rng, count = random.Random(20261121), {}
        for i in range(CASES):
            raw = odd_request(rng)
            got = answers_to(str(link), raw)
            assert all(400 <= status < 500 or status == 505 for status in got), (i, raw, got)      # 505: another version of HTTP
            for status in got or [0]:
                count[status] = count.get(status, 0) + 1
        assert {400, 404, 405} <= set(count) and count.get(0, 0) < CASES / 4, count
        body = kdc_proxy(as_req(nonce=7777))
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(link))
            s.sendall(f'POST /KdcProxy HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body)
            assert s.recv(65536).startswith(b'HTTP/1.1 200 ')
