# SPDX-License-Identifier: MIT
"""sallyport doctor REALM|HOST: each fault is made, and must be named with what to do; and nothing is named where nothing is
wrong. The machines are those of test_routes."""
import contextlib
import http.server
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest

import harness
from harness import HOST, PASSWORD, REALM, SALLYPORT, TOP, Server, run
from test_daemon import as_root, contents, der, integer, name
from test_routes import A, OFFICE, SRV, URI, VOID, cable, laptop, names, office  # noqa: F401

pytestmark = as_root
ALL_S = 11


class Report(dict):
    """What doctor --json says, its status and how long it took."""

    def told(self, about=None):
        return '\n'.join(f['what'] + ' -> ' + f['do'] for f in self['findings'] if about in (None, f['about']))

    def tries(self, way, by=None):
        return [t for t in self['tries'] if t['way'] == way and by in (None, t['by'])]

    def works(self, status=0):
        assert (self.status, self['works']) == (status, status == 0), json.dumps(self, indent=1)
        assert self.took < ALL_S, self.took
        return self


def examine(it, what=REALM, env=None, root=None):
    argv = [str(a) for a in (SALLYPORT, 'doctor', what, '--json', '--root', root or it.root)]
    began = time.monotonic()
    with it.network:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=dict(os.environ, **(env or {})))
    assert done.stdout.count('\n') == 1, done.stdout + done.stderr
    report = Report(json.loads(done.stdout))
    report.status, report.took, report.said = done.returncode, time.monotonic() - began, done.stderr
    return report


def say(it, what=REALM):
    with it.network:
        return run([SALLYPORT, 'doctor', what, '--root', it.root])


# ---- stands: what answers otherwise than it should ----

def error(code, ahead_s=0, realm=REALM, etypes=None):
    """A KRB-ERROR as a KDC of that realm whose clock is ahead makes it."""
    data = b''
    if etypes:
        infos = der(0x30, b''.join(der(0x30, der(0xa0, integer(t))) for t in etypes))
        data = der(0xac, der(4, der(0x30, der(0x30, der(0xa1, integer(19)) + der(0xa2, der(4, infos))))))
    stamp = time.strftime('%Y%m%d%H%M%SZ', time.gmtime(time.time() + ahead_s)).encode()
    other = der(0xa7, der(0x1b, b'OTHER')) if code == 68 else b''
    return der(0x7e, der(0x30, der(0xa0, integer(5)) + der(0xa1, integer(30)) + der(0xa4, der(0x18, stamp)) + der(0xa5, integer(0)) +
                         der(0xa6, integer(code)) + other + der(0xa9, der(0x1b, realm.encode())) +
                         der(0xaa, name(2, b'krbtgt', realm.encode())) + data))


class Stand:
    """A port of the office that gives one answer over UDP and TCP."""

    def __init__(self, network, answer, udp=True, tcp=True):
        self.answer, self.sockets = answer, []
        with network:
            self.tcp = socket.create_server((OFFICE, 0))
            self.port = self.tcp.getsockname()[1]
            self.udp = socket.socket(type=socket.SOCK_DGRAM)
            self.udp.bind((OFFICE, self.port))
        for serve, wanted in ((self.serve_udp, udp), (self.serve_tcp, tcp)):
            if wanted:
                threading.Thread(target=serve, daemon=True).start()

    def serve_udp(self):
        with contextlib.suppress(OSError, TypeError):       # None for an address: it was shut down
            while True:
                peer = self.udp.recvfrom(65536)[1]
                self.udp.sendto(self.answer(), peer)

    def serve_tcp(self):
        with contextlib.suppress(OSError):
            while True:
                s = self.tcp.accept()[0]
                with s:
                    s.recv(65536)
                    s.sendall(struct.pack('>I', len(self.answer())) + self.answer())

    def close(self):
        for s in self.tcp, self.udp:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


@pytest.fixture
def stand(cable):       # noqa: F811
    made = []

    def make(answer, **more):
        made.append(Stand(cable[1], answer, **more))
        return made[-1].port
    yield make
    for each in made:
        each.close()


class Web(http.server.ThreadingHTTPServer):
    def __init__(self, network, status, head=(), papers=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get('Content-Length', 0)))
                self.send_response(status)
                for line in head:
                    self.send_header(*line)
                self.send_header('Content-Length', '0')
                self.end_headers()
            do_POST = do_GET

            def log_message(self, *words):
                pass
        with network:
            super().__init__((OFFICE, 0), Handler)
        self.port = self.server_address[1]
        if papers:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*papers)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, address):
        pass


@pytest.fixture
def web(cable):     # noqa: F811
    made = []

    def make(status, **more):
        made.append(Web(cable[1], status, **more))
        return made[-1].port
    yield make
    for each in made:
        each.shutdown()
        each.server_close()


def papers(office, home, begins, ends, names=f'IP:{OFFICE}', authority=True):       # noqa: F811
    """A certificate of the office's authority, or of nobody's, with these times."""
    dir = office.ca.parent
    (home / 'ca.cnf').write_text(f'''[ca]
default_ca = it
[it]
database = {home}/index
serial = {home}/serial
new_certs_dir = {home}
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[names]
subjectAltName = {names}
''')
    (home / 'index').write_text('')
    (home / 'serial').write_text('77\n')
    key, out = home / 'other.key', home / 'other.pem'
    run(['openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=other', '-keyout', key, '-out',
         home / 'other.csr']).ok()
    sign = ['-cert', dir / 'ca.pem', '-keyfile', dir / 'ca.key'] if authority else ['-selfsign', '-keyfile', key]
    stamp = lambda days: time.strftime('%Y%m%d%H%M%SZ', time.gmtime(time.time() + days * 86400))     # noqa: E731
    run(['openssl', 'ca', '-batch', '-config', home / 'ca.cnf', '-in', home / 'other.csr', '-out', out, '-notext', '-extensions', 'names',
         '-startdate', stamp(begins), '-enddate', stamp(ends), *sign]).ok()
    return out, key


# ---- nothing is wrong ----

def test_nothing_is_wrong(laptop, office):      # noqa: F811
    it = laptop(f'kdc = {OFFICE}\nrelay = https://{OFFICE}/KdcProxy\naliases = CORP\n')
    office.reload(office.relay)
    for asked in REALM, 'corp', REALM.lower():
        report = examine(it, asked).works()
        assert report['findings'] == [] and report['realm'] == REALM and report['section'] == f'[realm {REALM}]'
    assert report['aliases'] == ['CORP'] and report['ladder'] == ['native', 'relay'] and report['courier']['runs']
    assert {r['target'] for r in report['courier']['routes']} == {f'{OFFICE}:88', f'https://{OFFICE}:443/KdcProxy'}
    assert [t['by'] for t in report.tries('native')] == ['UDP', 'TCP'] and len(report.tries('daemon')) == 1
    for t in report['tries']:
        if t['by'] == 'UDP' and t['error'] == 52:       # the KDC's answer is longer than a stranger's datagram is worth
            continue
        assert t['works'] and t['error'] in (25, 91) and abs(t['clock_ahead_s']) <= 2 and t['etypes'][0] == 18, t
    relay, = report.tries('relay')
    assert relay['status'] == 200 and relay['certificate']['trusted'] and relay['certificate']['named']
    assert 28 <= relay['certificate']['days_left'] <= 30 and relay['certificate']['protocol'] == 'TLSv1.3'
    text = say(it).ok()
    assert re.search(rf'certificate at {OFFICE}: for 192.0.2.2 relay.test, from CN=Test CA, (28|29|30) days left', text), text
    assert 'nothing is wrong' in text and re.search(r'ladder: +native relay', text) and 'what the daemon saw last' in text


def test_without_a_daemon(laptop, office):      # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    assert it.stop() == 0
    it.server = None
    report = examine(it).works()
    assert report.told() == 'no sallyportd answers here: programs on this host are not helped by it -> start sallyportd'
    report = examine(it, 'LAPTOP').works(1)
    assert report['local'] and report['ladder'] == ['local'] and 'start sallyportd' in report.told('daemon')


def test_the_local_realm(laptop):       # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    report = examine(it, 'LAPTOP').works()
    assert report['findings'] == [] and report['tries'][0]['works'] and report['local']
    it.reload(it.head.replace(f'listen-kdc = 127.0.0.1:1088\n', '') + f'[realm {REALM}]\nkdc = {OFFICE}\n')
    report = examine(it, 'LAPTOP').works()
    assert report['tries'][0]['by'] == 'socket'
    assert 'listen-kdc = 127.0.0.1:88' in examine(it).works().told('daemon')


# ---- names of realms ----

def test_no_such_realm(laptop):     # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    for asked, meant in (('TSET', 'TEST'), ('LAPTOB', 'LAPTOP')):
        report = examine(it, asked).works(1)
        assert report['tries'] == [] and f'no realm {asked} is configured here' in report.told('configuration')
        assert f'did you mean {meant}?' in report.told('configuration')
    far = examine(it, 'CORP.EXAMPLE.COM').works(1).told()
    assert 'did you mean' not in far and 'TEST' in far and 'add [realm CORP.EXAMPLE.COM]' in far


def test_a_realm_with_nowhere_to_go(laptop):        # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    assert it.stop() == 0
    it.server = None
    it.configure(it.head + f'[realm {REALM}]\naliases = CORP\n')
    report = examine(it).works(1)
    assert 'names no KDC' in report.told('configuration') and 'add kdc =' in report.told('configuration')


def test_a_kdc_of_another_realm(laptop, office):        # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n', f'[realm OTHER]\nkdc = {OFFICE}\n')
    report = examine(it, 'OTHER').works(1)
    assert f'{OFFICE}:88 does not serve OTHER (error 68; it says {REALM}) -> correct kdc =' in report.told('answer')


# ---- DNS ----

def test_records_of_dns(laptop, names):     # noqa: F811
    names({('_kerberos._udp.test', SRV): [(0, 0, 88, 'kdc.office.test')], ('_kerberos._tcp.test', SRV): [(0, 0, 88, 'kdc.office.test')],
           ('_kerberos.test', URI): [(10, 1, 'krb5srv:m:udp:kdc.office.test'), (20, 1, f'krb5srv::kkdcp:https://{OFFICE}/KdcProxy')],
           ('kdc.office.test', A): [OFFICE]})
    report = examine(laptop('discover = uri-srv\n', f'[courier]\nresolver = {OFFICE}:53\n')).works()
    assert {(r['kind'], r['says']) for r in report['records']} == {
        ('SRV', 'kdc.office.test:88'), ('URI', 'krb5srv:m:udp:kdc.office.test'), ('URI', f'krb5srv::kkdcp:https://{OFFICE}/KdcProxy')}
    assert len(report.tries('native')) == 2 and len(report.tries('relay')) == 1 and report['ladder'] == ['native', 'relay']
    assert all(t['works'] or t['error'] == 52 for t in report['tries']), report['tries']


def test_faults_of_dns(laptop, names):      # noqa: F811
    names({('_kerberos._udp.test', SRV): [(0, 0, 88, 'gone.office.test')]})
    it = laptop('discover = srv\nkdc = nowhere.test\n', f'[courier]\nresolver = {OFFICE}:53\n')
    told = examine(it).works(1).told('DNS')
    assert 'nowhere.test has no address: there is no such name -> correct the name in sallyport.conf' in told
    assert 'gone.office.test has no address: there is no such name -> correct the record in DNS' in told
    assert 'nowhere.test' in say(it).refused('no way works')


def test_dns_has_no_records(laptop, names):     # noqa: F811
    names({('kdc.office.test', A): [OFFICE]})
    report = examine(laptop('discover = srv\nkdc = kdc.office.test\n', f'[courier]\nresolver = {OFFICE}:53\n')).works()
    assert report.told() == 'DNS has no SRV records of TEST -> add the records to DNS, or write discover = static and list the KDCs'


def test_dns_is_silent(laptop):     # noqa: F811
    report = examine(laptop('discover = srv\n', f'[courier]\nresolver = {VOID[0]}:53\n')).works(1)
    assert 'DNS does not answer' in report.told('DNS')


# ---- ports ----

def test_closed_ports(laptop):      # noqa: F811
    report = examine(laptop(f'kdc = {OFFICE}:89\n')).works(1)
    assert f'{OFFICE}:89 cannot be reached over UDP and TCP: Connection refused -> start the KDC there' in report.told('ports')
    assert report.took < 3


def test_a_void(laptop):        # noqa: F811
    """The first KDC's packets are dropped: said, while it is waited for and afterwards; the relay works."""
    report = examine(laptop(f'kdc = {VOID[0]} tcp/{VOID[1]}\nrelay = https://{OFFICE}/KdcProxy\n')).works()
    assert f'{VOID[0]}:88 is silent over UDP and TCP: nothing came back in 3 s -> a firewall drops it' in report.told('ports')
    assert f'{VOID[1]}:88 is silent over TCP' in report.told('ports')
    assert re.search(rf'^sallyport: \d+ of \d+ answers are here; waiting for {VOID[0]}', report.said, re.M), report.said


def test_it_ends_in_time(laptop):       # noqa: F811
    many = ''.join(f'kdc = {VOID[i % 3]}:{1000 + i}\n' for i in range(14))
    report = examine(laptop(f'{many}relay = https://{VOID[0]}/\nin-band = http://{VOID[1]}/\n')).works(1)
    assert report.took < 6 and len(report.tries('native')) == 28


def test_one_transport_of_two(laptop, stand):       # noqa: F811
    udp, tcp = stand(lambda: error(6), tcp=False), stand(lambda: error(6), udp=False)
    told = examine(laptop(f'kdc = {OFFICE}:{udp} {OFFICE}:{tcp}\n')).works().told('ports')
    assert f'{OFFICE}:{tcp} answers over TCP, not over UDP: no reply in time -> open that port for UDP' in told
    assert f'{OFFICE}:{udp} answers over UDP, not over TCP: no reply in time -> open that port for TCP' in told


def test_something_else_listens_there(laptop, stand):       # noqa: F811
    port = stand(lambda: b'220 mail.test ESMTP\r\n')
    assert f'{OFFICE}:{port} is no KDC: what answers is no KDC -> correct the port' in examine(laptop(f'kdc = {OFFICE}:{port}\n')).works(1).told('answer')


# ---- clock, keys, errors ----

@pytest.mark.parametrize('ahead, works, words', [
    (600, False, r'the clock here is (599|600|601) s behind that of .* -> set the clock that is wrong'),
    (-4000, False, r'the clock here is (3999|4000|4001) s ahead of that of'),
    (120, True, r'the clock here is (119|120|121) s behind .* -> let both clocks follow a time server'), (3, True, '^$')])
def test_a_wrong_clock(laptop, stand, ahead, works, words):     # noqa: F811
    port = stand(lambda: error(25, ahead, etypes=[18]))
    report = examine(laptop(f'kdc = {OFFICE}:{port}\n')).works(0 if works else 1)
    assert re.search(words, report.told('clock').replace('ahead of that', 'ahead of that')), report.told()
    assert all(abs(t['clock_ahead_s'] - ahead) <= 1 for t in report.tries('native'))


def test_a_wrong_clock_here(laptop, office):        # noqa: F811
    """The whole command a quarter of an hour early."""
    it = laptop(f'kdc = {OFFICE}\n')
    with it.network:
        done = run(['faketime', '-f', '-900s', SALLYPORT, 'doctor', REALM, '--root', it.root])
    assert re.search(r'the clock here is (899|900|901) s behind', done.refused('no way works'))


@pytest.mark.parametrize('code, etypes, works, words', [
    (25, [23], True, 'offers no AES, only type 23 -> allow AES there'), (14, None, False, r'no encryption type in common with us \(error 14\)'),
    (25, [23, 17], True, '^$'), (6, None, True, '^$')])
def test_encryption_types(laptop, stand, code, etypes, works, words):       # noqa: F811
    port = stand(lambda: error(code, etypes=etypes))
    report = examine(laptop(f'kdc = {OFFICE}:{port}\n')).works(0 if works else 1)
    assert re.search(words, report.told('encryption types')), report.told()
    assert report.tries('native')[0].get('etypes') == etypes


@pytest.mark.parametrize('code, words', [(68, 'does not serve TEST .error 68; it says OTHER.'), (7, 'does not serve TEST .error 7'),
                                         (29, 'answers with error 29 KDC_ERR_SVC_UNAVAILABLE -> see the log of that KDC')])
def test_errors_that_are_no_way(laptop, stand, code, words):        # noqa: F811
    port = stand(lambda: error(code))
    assert re.search(words, examine(laptop(f'kdc = {OFFICE}:{port}\n')).works(1).told('answer'))


# ---- TLS and relays ----

def relay_told(laptop, home, port, about, host=OFFICE):     # noqa: F811
    report = examine(laptop(f'relay = https://{host}:{port}/KdcProxy\n')).works(1)
    return report, report.told(about)


def test_an_expired_certificate(laptop, office, web, home):     # noqa: F811
    port = web(200, papers=papers(office, home, -40, -10))
    report, told = relay_told(laptop, home, port, 'TLS')
    assert re.search(rf'^the certificate of {OFFICE} has expired (9|10) days ago \(CN=other\) -> renew it there', told)
    assert report.tries('relay')[0]['certificate']['days_left'] in (-10, -11)


def test_a_certificate_that_ends_soon(laptop, office, web, home):       # noqa: F811
    port = web(404, papers=papers(office, home, -40, 5))
    report, told = relay_told(laptop, home, port, 'TLS')
    assert re.search(r'ends in [45] days \(CN=other\) -> renew it in time', told)
    assert 'HTTP status 404 -> correct the path of relay =; usual is /KdcProxy' in report.told('answer')


def test_a_certificate_of_the_future(laptop, office, web, home):        # noqa: F811
    _, told = relay_told(laptop, home, web(200, papers=papers(office, home, 3, 30)), 'TLS')
    assert re.search('is not good before [34] days from now -> set the clock here', told)


def test_a_certificate_for_another_name(laptop, office, web, home):     # noqa: F811
    _, told = relay_told(laptop, home, web(200, papers=papers(office, home, -1, 30, 'DNS:relay.test, DNS:gate.test')), 'TLS')
    assert f'the certificate of {OFFICE} is for another name: relay.test gate.test -> write one of its names into the URL' in told


def test_a_certificate_of_nobody(laptop, office, web, home):        # noqa: F811
    _, told = relay_told(laptop, home, web(200, papers=papers(office, home, -1, 30, authority=False)), 'TLS')
    assert f'nobody we trust vouches for the certificate of {OFFICE}: self-signed certificate' in told and 'ca-file' in told


def test_no_tls_there(laptop, web, home):       # noqa: F811
    report, told = relay_told(laptop, home, web(200), 'ports')
    assert 'cannot be reached: no TLS' in report.told(), report.told()


@pytest.mark.parametrize('status, words', [(401, 'wants to see who asks'), (403, 'have the realm listed'), (404, 'correct the path'),
                                           (429, 'raise the relay'), (503, 'the relay is there and its KDC is not'),
                                           (500, 'see the log of the relay')])
def test_what_a_relay_answers(laptop, office, web, home, status, words):        # noqa: F811
    report, told = relay_told(laptop, home, web(status, papers=papers(office, home, -1, 30)), 'answer')
    assert words in told and f'HTTP status {status}' in told and report.tries('relay')[0]['status'] == status


def test_a_relay_that_does_not_carry_the_realm(laptop, office):     # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n', f'[realm OTHER]\nrelay = https://{OFFICE}/KdcProxy\n')
    assert 'have the realm listed' in examine(it, 'OTHER').works(1).told('answer')


def test_a_relay_whose_kdc_is_gone(laptop, office):     # noqa: F811
    office.reload(office.relay + f'[realm LOST]\nkdc = {VOID[0]}\nvia-relay = on\n')
    try:
        it = laptop(f'kdc = {OFFICE}\n', f'[realm LOST]\nrelay = https://{OFFICE}/KdcProxy\n')
        assert 'the relay is there and its KDC is not' in examine(it, 'LOST').works(1).told('answer')
    finally:
        office.reload(office.relay)


# ---- in-band ----

@pytest.fixture
def gate(office, cable, home):      # noqa: F811
    """A web server of the office that takes IAKERB: `sallyport gss serve` behind a stand. Told is its URL."""
    office.command('service', 'add', 'HTTP/gate.test').ok()
    keytab = home / 'http.keytab'
    office.command('service', 'keytab', 'HTTP/gate.test', '--out', keytab).ok()
    gss, port = harness.free_port(), harness.free_port()
    stand = (TOP / 'tests/interop/negotiate_stand.py').read_text().replace("('127.0.0.1', options.port)", f"('{OFFICE}', options.port)")
    (home / 'stand.py').write_text(stand)
    with cable[1]:
        env = dict(os.environ, SALLYPORT_ROOT=str(office.root))
        servers = [Server([SALLYPORT, 'gss', 'serve', '--keytab', keytab, '--listen', f'127.0.0.1:{gss}'], home / 'gss.log', gss, env)]
        process = subprocess.Popen([sys.executable, home / 'stand.py', str(port), str(gss)])
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection((OFFICE, port), 1).close()
                break
            time.sleep(0.05)
    yield f'http://{OFFICE}:{port}/'
    process.kill()
    process.wait()
    servers[0].stop()
    office.command('service', 'delete', 'HTTP/gate.test', '--yes').ok()


def test_in_band(laptop, gate):     # noqa: F811
    it = laptop(f'in-band = {gate}\n', f'[realm OTHER]\nin-band = {gate}\n')
    report = examine(it).works()
    ride, discovery = report.tries('in-band')
    assert ride['works'] and ride['error'] in (25, 91) and discovery['says_realm'] == REALM and report['findings'] == []
    told = examine(it, 'OTHER').works(1).told()
    assert 'it takes IAKERB and knows no KDC of this realm -> name the realm in [iakerb] realms on that server' in told
    assert f'says that its realm is {REALM}' in told


@pytest.mark.parametrize('status, head, words', [
    (200, [], 'HTTP status 200'), (401, [('WWW-Authenticate', 'Basic realm="x"')], 'does not offer Negotiate -> name a path'),
    (401, [('WWW-Authenticate', 'Negotiate')], 'not with this mechanism -> that server does not speak IAKERB')])
def test_servers_that_take_no_iakerb(laptop, web, status, head, words):     # noqa: F811
    report = examine(laptop(f'in-band = http://{OFFICE}:{web(status, head=head)}/\n')).works(1)
    assert words in report.told() or (status == 200 and 'name a path of in-band' in report.told()), report.told()


# ---- hosts ----

@pytest.fixture
def user(laptop, office, home):     # noqa: F811
    """A laptop whose user has a TGT of the office's realm, and examine() as that user."""
    it = laptop(f'kdc = {OFFICE}\n')
    (home / 'krb5.conf').write_text(f'[libdefaults]\n default_realm = LAPTOP\n[domain_realm]\n .test = {REALM}\n odd.test = ODD\n')
    (home / 'hosts').write_text(f'127.0.0.1 localhost\n{OFFICE} {HOST} nas1\n{OFFICE} lonely\n{OFFICE} odd.test\n192.0.2.1 me.test '
                                f'{socket.gethostname()}\n')
    env = {'KRB5_CONFIG': str(home / 'krb5.conf'), 'KRB5CCNAME': f'FILE:{home}/cc', 'KRB5_KTNAME': f'{home}/none.keytab'}

    def go(what, **more):
        argv = ['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', home / 'hosts', SALLYPORT, 'doctor', what, '--json',
                '--root', it.root]
        with it.network:
            done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, env=dict(os.environ, **dict(env, **more)))
        report = Report(json.loads(done.stdout))
        report.status, report.took = done.returncode, 0
        return report
    with it.network:
        run([SALLYPORT, 'login', f'alice@{REALM}', '--password-stdin', '--kdc', f'{OFFICE}:88', '--root', it.root], stdin=PASSWORD + '\n',
            env=dict(os.environ, **env)).ok()
    return go


def test_a_host(user):
    report = user('nas1').works()
    assert report['host']['full'] == HOST and report['host']['short'] == 'nas1' and report['host']['addresses'] == [OFFICE]
    assert (report['host']['realm'], report['host']['mapped_by'], report['realm']) == (REALM, '.test', REALM)
    services = {s['service']: s for s in report['services']}
    assert services[f'host/{HOST}']['had'] and services[f'host/{HOST}']['etype'] == 18 and services['host/nas1']['had']
    assert services[f'HTTP/{HOST}']['ticket'] == 'no such service' and services['cifs/nas1']['ticket'] == 'no such service'
    assert 'keytab' not in services[f'host/{HOST}'] and report['findings'] == [], report['findings']


def test_a_host_that_nobody_knows(user):
    report = user('nowhere.test').works(1)
    assert re.search('^nowhere.test has no address: .* -> correct the name, or add it to DNS or /etc/hosts', report.told('DNS'))
    assert 'knows no service HTTP, cifs or host of nowhere.test' in report.told('service names')


def test_addresses_and_short_names(user):
    told = user(OFFICE).told('service names')
    assert f'{OFFICE} is an address: programs ask for a ticket for the address itself' in told
    assert 'lonely has no full name' in user('lonely').told('service names')


def test_the_realm_of_a_host(user, home):
    assert user('odd.test').works(1).told('configuration').startswith('no realm ODD is configured here')
    (home / 'krb5.conf').write_text('[libdefaults]\n default_realm = LAPTOP\n')
    assert (lambda h: (h['realm'], h['mapped_by']))(user(HOST)['host']) == ('LAPTOP', 'default_realm')


def test_without_a_tgt(user, home):
    (home / 'cc').unlink()
    report = user(HOST).works()
    assert report['services'] == [] and 'no TGT of TEST is in the credential cache' in report.told('service names')


def test_keytab_of_this_host(user, office, home):       # noqa: F811
    """Run on the host itself: its keytab has the key, a key of before, another type, nothing."""
    short = socket.gethostname().split('.')[0]
    service, keytabs = f'host/{short}.test', [home / f'{name}.keytab' for name in ('before', 'now', 'other')]
    (home / 'hosts').write_text(f'127.0.0.1 localhost\n192.0.2.1 {short}.test {short}\n')

    def state(file):
        report = user(short, KRB5_KTNAME=f'FILE:{file}').works()
        return {s['service']: s.get('keytab') for s in report['services']}[service], report.told('encryption types')

    def write(file):
        office.command('service', 'keytab', service, '--out', file).ok()
    try:
        office.command('service', 'add', service, '--enctypes', '18').ok()
        write(keytabs[0])
        office.command('service', 'rotate', service).ok()
        write(keytabs[1])
        assert state(keytabs[1]) == ('has the key', '')
        found, told = state(keytabs[0])
        assert found == 'another version' and f'older or newer key of {service} than its tickets -> write the keytab again' in told
        office.command('service', 'delete', service, '--yes').ok()
        office.command('service', 'add', service, '--enctypes', '17').ok()
        found, told = state(keytabs[1])
        assert found == 'another type' and f'has {service} with another encryption type than its tickets' in told
        office.command('service', 'keytab', f'host/{HOST}', '--out', keytabs[2]).ok()
        assert state(keytabs[2])[0] == 'no entry'
    finally:
        office.command('service', 'delete', service, '--yes').ok()


def test_usage(laptop):     # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    assert run([SALLYPORT, 'doctor', 'x' * 300, '--root', it.root]).code == 2
    assert run([SALLYPORT, 'doctor', 'A', 'B', '--root', it.root]).code == 2
    assert contents(error(6))
