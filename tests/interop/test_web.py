# SPDX-License-Identifier: MIT
"""The HTTPS door alone (tests/web_door.c) before peers of other make: curl, openssl s_client, Python, raw sockets."""
import email.utils
import http.server
import os
import pathlib
import re
import resource
import socket
import ssl
import subprocess
import threading
import time

import pytest

from harness import BUILD, run

DOOR = BUILD / 'tests' / 'web_door'
ASK = BUILD / 'tests' / 'web_ask'
HEAD = b'POST /KdcProxy HTTP/1.1\r\nHost: relay.test\r\n'
HELLO = HEAD + b'Content-Length: 5\r\n\r\nhello'
SEEN = b'path=/KdcProxy host=relay.test body=5'


def openssl(*argv, stdin=''):
    return run(['openssl', *argv], stdin=stdin, timeout=20)


@pytest.fixture(scope='module')
def papers(tmp_path_factory):
    """An authority, a server's and a client's certificate, and somebody else's."""
    dir = tmp_path_factory.mktemp('papers')

    def make(name, subject, alt=None, ca=None):
        key, crt = dir / f'{name}.key', dir / f'{name}.crt'
        sign = ['-CA', dir / f'{ca}.crt', '-CAkey', dir / f'{ca}.key'] if ca else []
        extensions = ['-addext', 'basicConstraints=critical,CA:' + ('FALSE' if ca else 'TRUE')]
        if alt:
            extensions += ['-addext', f'subjectAltName={alt}']
        openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', subject,
                '-keyout', key, '-out', crt, *extensions, *sign).ok()
        (dir / f'{name}.pem').write_text(crt.read_text() + key.read_text())

    make('ca', '/CN=authority')
    make('server', '/CN=relay', 'DNS:relay.test,IP:127.0.0.1', 'ca')
    make('alice', '/O=Test/CN=alice', 'DNS:alice', 'ca')
    make('stranger', '/CN=stranger', 'DNS:stranger')
    return dir


class Door:
    def __init__(self, log, *argv, seconds=60, **env):
        self.log = log
        self.process = subprocess.Popen([DOOR, '127.0.0.1:0', str(seconds), *map(str, argv)], stdout=log.open('w'),
                                        env={**os.environ, **{k: str(v) for k, v in env.items()}})
        end = time.monotonic() + 10
        while not log.read_text().endswith('\n') and time.monotonic() < end:
            time.sleep(0.02)
        self.port = int(log.read_text().split('\n')[0].rsplit(':', 1)[1])

    def refusals(self):
        return re.findall(r'^refused (\d+) (.*)$', self.log.read_text(), re.M)

    def connect(self):
        s = socket.create_connection(('127.0.0.1', self.port), timeout=10)
        s.settimeout(10)
        return s

    def say(self, data):
        """Everything that comes back until the end of the connection."""
        with self.connect() as s:
            s.sendall(data)
            return read_all(s)

    def memory_kib(self):
        text = pathlib.Path(f'/proc/{self.process.pid}/smaps_rollup').read_text()
        return int(re.search(r'^Rss: *(\d+) kB', text, re.M)[1])

    def alive(self):
        with self.connect() as s:
            s.sendall(HELLO)
            return SEEN in s.recv(4096)


def read_all(s):
    data = b''
    while True:
        try:
            chunk = s.recv(65536)
        except ConnectionResetError:
            return data + b'<reset>'
        if not chunk:
            return data
        data += chunk


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    door = Door(tmp_path_factory.mktemp('plain') / 'log')
    yield door
    door.process.kill()
    door.process.wait()


@pytest.fixture(scope='module')
def secure(tmp_path_factory, papers):
    door = Door(tmp_path_factory.mktemp('secure') / 'log', papers / 'server.pem', papers / 'ca.crt')
    yield door
    door.process.kill()
    door.process.wait()


def context(papers, **settings):
    c = ssl.create_default_context(cafile=papers / 'ca.crt')
    for name, value in settings.items():
        setattr(c, name, value)
    return c


def post(door, c, session=None):
    """One request by Python's own TLS; the reply, and the session for the next time."""
    with c.wrap_socket(door.connect(), server_hostname='relay.test', session=session) as s:
        s.sendall(HELLO)
        reply = s.recv(4096)
        return reply, s.session, s.session_reused


def curl(door, papers, *argv, data='hello'):
    return run(['curl', '-sS', '--max-time', '10', '--cacert', papers / 'ca.crt', '--resolve', f'relay.test:{door.port}:127.0.0.1',
                '--data-binary', data, '-H', 'Content-Type: application/kerberos', *argv, f'https://relay.test:{door.port}/KdcProxy'])


# ---- TLS ----

def test_curl(secure, papers):
    text = curl(secure, papers, '-i').ok()
    assert text.startswith('HTTP/1.1 200 OK\n') and 'Content-Type: application/kerberos\n' in text
    assert f'path=/KdcProxy host=relay.test:{secure.port} body=5 subject= exporter=32\n' in text
    date = email.utils.parsedate_to_datetime(re.search(r'^Date: (.*)$', text, re.M)[1])
    assert date.strftime('Date: %a, %d %b %Y %H:%M:%S GMT\n') in text and abs(date.timestamp() - time.time()) < 5
    assert curl(secure, papers, '--http1.0', '-i').ok().count('Connection: close\n') == 1


def test_curl_with_a_large_body(secure, papers, tmp_path):
    """curl waits for 100 Continue before a large body, and is told 413 instead of it where it is too large."""
    for size, status in (131072, 200), (131073, 413), (4000000, 413):
        (tmp_path / 'body').write_bytes(b'x' * size)
        text = curl(secure, papers, '-i', '-H', 'Expect: 100-continue', data=f'@{tmp_path}/body').text
        assert re.search(rf'^HTTP/1.1 {status} ', text, re.M), text


def test_curl_method(secure, papers):
    for method in 'GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS':
        text = run(['curl', '-sS', '-k', '-i', *(['-I'] if method == 'HEAD' else ['-X', method]),
                    f'https://127.0.0.1:{secure.port}/KdcProxy']).text
        assert text.startswith('HTTP/1.1 405 ') and 'Allow: POST\n' in text, text


def test_curl_certificate(secure, papers):
    assert 'subject=CN=alice,O=Test exporter' in curl(secure, papers, '--cert', papers / 'alice.pem').ok()
    curl(secure, papers, '--cert', papers / 'stranger.pem').refused('alert', 'reset', 'unknown ca')
    assert ('0', 'no TLS: certificate verify failed') in secure.refusals()


@pytest.mark.parametrize('version, taken', [('-tls1', False), ('-tls1_1', False), ('-tls1_2', True), ('-tls1_3', True)])
def test_versions(secure, version, taken):
    text = openssl('s_client', version, '-cipher', 'ALL:@SECLEVEL=0', '-connect', f'127.0.0.1:{secure.port}').text
    assert ('Cipher is (NONE)' not in text) == taken, text
    assert 'Compression: NONE' in text


def test_resumption_by_openssl(secure, tmp_path):
    at = f'127.0.0.1:{secure.port}'
    text = openssl('s_client', '-tls1_2', '-reconnect', '-connect', at).text
    assert text.count('Reused, TLSv1.2') == 5, text
    request = HELLO.decode().replace('HTTP/1.1', 'HTTP/1.0')
    openssl('s_client', '-tls1_3', '-ign_eof', '-sess_out', tmp_path / 's', '-connect', at, stdin=request).ok()
    text = openssl('s_client', '-tls1_3', '-ign_eof', '-sess_in', tmp_path / 's', '-connect', at, stdin=request).ok()
    assert 'Reused, TLSv1.3' in text and 'body=5' in text
    # 0-RTT: the ticket allows none, so the client does not send any.
    (tmp_path / 'early').write_bytes(HELLO)
    text = openssl('s_client', '-tls1_3', '-sess_in', tmp_path / 's', '-early_data', tmp_path / 'early', '-connect', at).text
    assert 'Early data was not sent' in text and 'Early data was accepted' not in text


def test_resumption_by_python(secure, papers):
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        c = context(papers, minimum_version=version, maximum_version=version)
        reply, session, reused = post(secure, c)
        assert b' 200 OK\r\n' in reply and not reused
        for _ in range(3):
            reply, session, reused = post(secure, c, session)
            assert b' 200 OK\r\n' in reply and reused


def test_renegotiation_is_refused(secure):
    """R on a line of its own asks s_client to renegotiate."""
    with subprocess.Popen(['openssl', 's_client', '-tls1_2', '-connect', f'127.0.0.1:{secure.port}'], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        time.sleep(1)
        p.stdin.write(b'R\n')
        p.stdin.flush()
        time.sleep(1)
        text, _ = p.communicate(b'', timeout=15)
    assert b'RENEGOTIATING' in text and b'no renegotiation' in text, text


def test_protocols(secure, papers):
    """ALPN: http/1.1 is taken from the list; a client that speaks h2 alone is told so."""
    c = context(papers)
    c.set_alpn_protocols(['h2', 'http/1.1'])
    with c.wrap_socket(secure.connect(), server_hostname='relay.test') as s:
        assert s.selected_alpn_protocol() == 'http/1.1'
    c.set_alpn_protocols(['h2'])
    with pytest.raises(ssl.SSLError, match='no application protocol'):
        c.wrap_socket(secure.connect(), server_hostname='relay.test')


HELLO_TOO_LONG = b'\x16\x03\x01\x40\x00\x01\x00\x3f\xfc' + b'A' * 16380
HELLO_OF_A_MEGABYTE = b'\x16\x03\x01\x40\x00\x01\x0f\xff\xff' + b'\x03\x03' + b'A' * 16378


@pytest.mark.parametrize('data, patience', [
    (b'', 5), (b'\x16', 5), (b'\x16\x03\x01\x02\x00', 5), (HELLO_TOO_LONG, 1), (HELLO_OF_A_MEGABYTE, 5), (b'\x00' * 100, 1),
    (b'\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10' + b'\x01' * 40, 5), (HELLO, 1)])
def test_handshakes_that_are_none(secure, papers, data, patience):
    """T031: closed within 5 s, and the next one is none the worse for it."""
    began = time.monotonic()
    secure.say(data)
    assert time.monotonic() - began < patience + 1
    assert post(secure, context(papers))[0].startswith(b'HTTP/1.1 200')


@pytest.mark.parametrize('name', ['x' * 255, 'a' * 63 + '.test', 'xn--a', '0x7f.1'])
def test_junk_for_a_server_name(secure, papers, name):
    """SNI says nothing here: there is one certificate, and its name is the client's to check."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    try:
        with c.wrap_socket(secure.connect(), server_hostname=name) as s:
            s.sendall(HELLO)
            assert SEEN in s.recv(4096)
    except (ssl.SSLError, UnicodeError):
        pass        # the client or the server will not have it
    assert post(secure, context(papers))[0].startswith(b'HTTP/1.1 200')


# ---- HTTP ----

@pytest.mark.parametrize('status, data', [
    (400, b'GET /KdcProxy\r\n\r\n'),
    (400, HEAD + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    (400, HEAD + b'Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n'),
    (400, HEAD + b'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'),
    (400, HEAD + b'Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\nhello'),
    (400, HEAD + b'Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello'),
    (400, HEAD + b'Content-Length: 5,5\r\n\r\nhello'),
    (400, HEAD + b'Content-Length: -1\r\n\r\n'),
    (400, HEAD + b'Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00'),
    (400, HEAD + b'Host: b\r\nContent-Length: 5\r\n\r\nhello'),
    (400, b'POST /KdcProxy HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello'),
    (400, b'POST /KdcProxy HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello'),
    (400, HEAD + b'Content-Length:\r\n 5\r\n\r\nhello'),
    (400, HEAD + b'X: \x00\r\nContent-Length: 5\r\n\r\nhello'),
    (405, b'GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
    (405, b'TRACE / HTTP/1.1\r\nHost: a\r\n\r\n'),
    (405, b'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'),
    (411, HEAD + b'\r\n'),
    (413, HEAD + b'Content-Length: 131073\r\n\r\n' + b'x' * 131073),
    (413, HEAD + b'Content-Length: 18446744073709551621\r\n\r\nhello'),
    (417, HEAD + b'Expect: 200-ok\r\nContent-Length: 5\r\n\r\n'),
    (431, HEAD + b'X: ' + b'x' * 1000000 + b'\r\n\r\n'),
    (505, b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
])
def test_refused(plain, status, data):
    """T032: told why, closed, and the next request on a connection of its own is unaffected."""
    before = len(plain.refusals())
    reply = plain.say(data)
    assert reply.startswith(f'HTTP/1.1 {status} '.encode()), reply
    assert b'\r\nConnection: close\r\n' in reply and reply.count(b'\r\n\r\n') == 1
    assert [int(s) for s, _ in plain.refusals()[before:]] == [status]
    assert plain.alive()


def test_slow(plain):
    began = time.monotonic()
    with plain.connect() as s:
        s.settimeout(20)
        for byte in HELLO[:9]:
            s.sendall(bytes([byte]))
            time.sleep(1)
        assert read_all(s).startswith(b'HTTP/1.1 408 ')
    assert 9 < time.monotonic() - began < 12


def test_expect(plain):
    with plain.connect() as s:
        s.sendall(HEAD + b'Content-Length: 5\r\nExpect: 100-continue\r\n\r\n')
        assert s.recv(4096) == b'HTTP/1.1 100 Continue\r\n\r\n'
        s.sendall(b'hello')
        assert SEEN in s.recv(4096)


def test_pipelining(plain):
    """A hundred at once, the last with a mistake: ninety-nine answers, a refusal, the end."""
    reply = plain.say(HELLO * 99 + b'POST / HTTP/1.1\r\n\r\n')
    assert reply.count(b'HTTP/1.1 200 OK\r\n') == 99 and reply.count(SEEN) == 99
    assert reply.count(b'HTTP/1.1 400 Bad Request\r\n') == 1 and reply.index(b' 400 ') > reply.rindex(b' 200 ')


def test_smuggled_prefix(plain):
    """What stands behind a body is the next request, never part of this one."""
    reply = plain.say(HEAD + b'Content-Length: 4\r\n\r\nhellGET /admin HTTP/1.1\r\nHost: a\r\n\r\n')
    assert b'body=4' in reply and reply.count(b'HTTP/1.1 200') == 1 and reply.count(b'HTTP/1.1 405') == 1


# ---- many ----

def memory_of_idle(door, wrap, count):
    """KiB that each of `count` connections costs which have asked once and now wait."""
    before, open_ones = door.memory_kib(), []
    began = time.monotonic()
    for i in range(count):
        s = socket.socket()
        s.bind((f'127.0.{1 + i % 50}.1', 0))
        s.connect(('127.0.0.1', door.port))
        open_ones.append(wrap(s))
    for s in open_ones[::max(1, count // 500)]:
        s.sendall(HELLO)
        assert SEEN in s.recv(4096)
    each = (door.memory_kib() - before) / count
    print(f'{count} connections in {time.monotonic() - began:.1f} s, {each:.2f} KiB each')
    return each, open_ones


def test_ten_thousand_idle(tmp_path):
    """T019, at this door: 64 MiB are 6.5 KiB each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10200:
        pytest.skip('this machine allows no 10,000 descriptors')
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    door = Door(tmp_path / 'log', WEB_CONNECTIONS=10100, WEB_PER_SOURCE=10100, WEB_IDLE=60)
    try:
        each, open_ones = memory_of_idle(door, lambda s: s, 10000)
        assert each < 6.5
        assert door.alive() and door.refusals() == []
        assert read_cpu(door) < 3
        for s in open_ones:
            s.close()
    finally:
        door.process.kill()
        door.process.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def read_cpu(door):
    fields = pathlib.Path(f'/proc/{door.process.pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def test_idle_over_tls(papers, tmp_path):
    door = Door(tmp_path / 'log', papers / 'server.pem', WEB_CONNECTIONS=2000, WEB_PER_SOURCE=2000, WEB_IDLE=60)
    c = context(papers)
    try:
        each, open_ones = memory_of_idle(door, lambda s: c.wrap_socket(s, server_hostname='relay.test'), 500)
        assert each < 48        # OpenSSL's own state: nearly all of it
        for s in open_ones:
            s.close()
    finally:
        door.process.kill()
        door.process.wait()


def test_one_source(tmp_path):
    """The 65th connection of a source goes, and another source does not notice."""
    door = Door(tmp_path / 'log')
    try:
        here = [door.connect() for _ in range(64)]
        time.sleep(0.2)
        with door.connect() as over:
            assert over.recv(1) == b''
        end = time.monotonic() + 5
        while not door.refusals() and time.monotonic() < end:
            time.sleep(0.05)
        assert door.refusals() == [('0', 'too many connections from one source')]
        other = socket.create_connection(('127.0.0.1', door.port), source_address=('127.0.9.9', 0))
        other.sendall(HELLO)
        assert SEEN in other.recv(4096)
        here[0].sendall(HELLO)
        assert SEEN in here[0].recv(4096)
        for s in here + [other]:
            s.close()
    finally:
        door.process.kill()
        door.process.wait()


# ---- the client, before a server of other make ----

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    timeout = 10

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        cert = self.connection.getpeercert() or {}
        name = ','.join(v for rdn in cert.get('subject', ()) for _, v in rdn)
        text = f'{self.path} {self.headers["Host"]} {body.decode()} {name}'.encode()
        self.server.seen.append((self.client_address, self.connection.session_reused, self.connection.version()))
        self.send_response(200)
        self.send_header('Content-Type', 'application/kerberos')
        self.send_header('Content-Length', str(len(text)))
        if self.server.closes:
            self.send_header('Connection', 'close')
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Served:
    """Python's HTTPS server, for the time of a `with`."""

    def __init__(self, papers, closes=False, **settings):
        c = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=papers / 'ca.crt')
        c.load_cert_chain(papers / 'server.pem')
        c.verify_mode = ssl.CERT_OPTIONAL
        for name, value in settings.items():
            setattr(c, name, value)
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.socket = c.wrap_socket(self.server.socket, server_side=True)
        self.server.seen, self.server.closes = [], closes
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def ask(papers, at, *more, host='relay.test', count=1):
    return run([ASK, at, host, '/KdcProxy', count, papers / 'ca.crt', *more]).ok()


@pytest.mark.parametrize('version', ['TLSv1_2', 'TLSv1_3'])
def test_client_keeps_and_resumes(papers, version):
    limits = {'minimum_version': ssl.TLSVersion[version], 'maximum_version': ssl.TLSVersion[version]}
    with Served(papers, **limits) as s:
        assert ask(papers, f'127.0.0.1:{s.port}', count=5) == f'done 200 - /KdcProxy relay.test:{s.port} hello \n' * 5
        assert len({address for address, _, _ in s.server.seen}) == 1
    with Served(papers, closes=True, **limits) as s:
        assert ask(papers, f'127.0.0.1:{s.port}', count=5).count('done 200 - ') == 5
        assert [reused for _, reused, _ in s.server.seen] == [False] + [True] * 4
        assert {v for _, _, v in s.server.seen} == {version.replace('_', '.')}


def test_client_shows_its_certificate(papers):
    with Served(papers) as s:
        assert ask(papers, f'127.0.0.1:{s.port}', papers / 'alice.pem').endswith(' hello Test,alice\n')


def test_client_checks_the_server(papers):
    with Served(papers) as s:
        at = f'127.0.0.1:{s.port}'
        assert ask(papers, at, host='other.test') == "refused 0 the server's certificate is for another name \n"
        assert ask(papers, at, host='127.0.0.1').startswith('done 200 ')
        text = run([ASK, at, 'relay.test', '/', '1', papers / 'stranger.crt']).ok()
        assert text == "refused 0 the server's certificate is from nobody who is trusted here \n"
        text = run([ASK, at, 'relay.test', '/', '1', '-']).ok()     # the system's bundle, or nobody
        assert text == "refused 0 the server's certificate is from nobody who is trusted here \n"


def test_client_wants_tls_1_2(papers):
    with subprocess.Popen(['openssl', 's_server', '-accept', '127.0.0.1:0', '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0', '-cert', papers / 'server.crt',
                           '-key', papers / 'server.key'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
        at = next(line for line in iter(p.stdout.readline, b'') if line.startswith(b'ACCEPT ')).decode().split()[1]
        assert ask(papers, at).startswith('refused 0 no TLS: ')
        p.kill()
