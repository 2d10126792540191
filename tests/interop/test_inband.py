# SPDX-License-Identifier: MIT
"""The in-band rung: programs that know nothing but a KDC on their own loopback, and a courier whose only way is a web
server's own port, where each of their requests is the first token of an IAKERB context."""
import base64
import contextlib
import http.server
import os
import pwd
import signal
import socket
import threading
import time

import pytest

import harness
from harness import BUILD, Client, HOST, PASSWORD, REALM, WRONG_PASSWORD, Server, free_port, need_peer, peer, run
from test_daemon import Instance, as_req, as_root, ask_stream, ask_udp, error_code
from test_gokrb5 import go, program      # noqa: F401
from test_java import java
from test_relay_negotiate import certificate

pytestmark = as_root
PLUGIN = BUILD / 'src/plugin/mech_sallyport.so'
OWN_OID = '1.3.6.1.4.1.32473.88.5'      # an interposer needs one of its own
MODULES = '/usr/lib/apache2/modules'
NO_WAY = 86
TIMESTAMP = 'in-band-timestamp = yes\n'


# ---- far away: a realm with its KDC, and web servers that clients can reach ----

@pytest.fixture(scope='module')
def far(place):
    dir = place / 'inband'
    dir.mkdir()
    dir.chmod(0o755)
    it = harness.SallyportRealm(dir, generous=True)
    for service in 'host', 'HTTP':
        it.service_add(f'{service}/{HOST}')
    it.host_keytab = dir / 'host.keytab'
    it.keytab(f'host/{HOST}', it.host_keytab)
    yield it
    it.close()


class Apache(Server):
    """Stock Apache with mod_auth_gssapi, plain and TLS."""

    def __init__(self, far, dir, env, allowed=''):
        dir.mkdir()
        (dir / 'htdocs').mkdir()
        (dir / 'htdocs/index.html').write_text('through the small gate\n')
        certificate(dir, 'web', 'IP:127.0.0.1')
        far.keytab(f'HTTP/{HOST}', dir / 'http.keytab')
        (dir / 'replay').mkdir()
        for each in dir, dir / 'http.keytab', dir / 'replay', dir / 'htdocs', dir / 'htdocs/index.html':
            os.chown(each, pwd.getpwnam('www-data').pw_uid, -1)
        self.port_, self.tls, self.errors = free_port(), free_port(), dir / 'error.log'
        self.url, self.tls_url, self.ca = f'http://127.0.0.1:{self.port_}/', f'https://127.0.0.1:{self.tls}/', dir / 'ca.pem'
        modules = 'mpm_prefork authn_core authz_core authz_user auth_gssapi dir headers socache_shmcb ssl'.split()
        (dir / 'httpd.conf').write_text(''.join(f'LoadModule {m}_module {MODULES}/mod_{m}.so\n' for m in modules) + f'''
ServerRoot {dir}
ServerName {HOST}
Listen 127.0.0.1:{self.port_}
Listen 127.0.0.1:{self.tls}
PidFile {dir}/pid
ErrorLog {dir}/error.log
LogLevel info
User www-data
Group www-data
DocumentRoot {dir}/htdocs
DirectoryIndex index.html
StartServers 2
<Directory {dir}/htdocs>
    AuthType GSSAPI
    AuthName sallyport
    GssapiCredStore keytab:{dir}/http.keytab
    GssapiConnectionBound On
    {allowed}
    Require valid-user
    Header set X-User "expr=%{{REMOTE_USER}}"
</Directory>
<VirtualHost 127.0.0.1:{self.tls}>
    SSLEngine on
    SSLCertificateFile {dir}/web.pem
    SSLCertificateKeyFile {dir}/web.key
</VirtualHost>
''')
        clean = {k: v for k, v in os.environ.items() if not k.startswith(('KRB5', 'SALLYPORT', 'GSS'))}
        clean.update(KRB5_CONFIG=str(far.krb5_conf()), KRB5RCACHEDIR=f'{dir}/replay', **env(dir))
        super().__init__(peer('mit', 'apache2', '-f', dir / 'httpd.conf', '-DFOREGROUND'), dir / 'stderr.log', self.port_, clean)


@pytest.fixture(scope='module')
def web(far, place):
    """With our mechanism in it, which knows the KDC from the daemon of its machine."""
    need_peer('mit')

    def env(dir):
        (dir / 'mech').write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
        return {'GSS_MECH_CONFIG': str(dir / 'mech'), 'SALLYPORT_ROOT': str(far.root)}
    it = Apache(far, place / 'inband-web', env)
    yield it
    it.stop()


@pytest.fixture(scope='module')
def debian(far, place):
    """With nothing of ours: the IAKERB acceptor of Debian's libgssapi, MIT krb5 1.20.1."""
    need_peer('mit')

    def env(dir):
        (dir / 'mech').write_text('')
        return {'GSS_MECH_CONFIG': str(dir / 'mech')}
    it = Apache(far, place / 'inband-debian', env, 'GssapiAllowedMech krb5\n    GssapiAllowedMech iakerb')
    yield it
    it.stop()


# ---- here: a courier that knows one way ----

class Laptop(Instance):
    """A sallyportd of another realm whose loopback door is all that programs see."""

    def __init__(self, root, ca):
        super().__init__(root)
        self.door = free_port()
        self.head = f'[courier]\nlisten-kdc = 127.0.0.1:{self.door}\nca-file = {ca}\n[log]\nflood = 1000000\n'
        self.configure(self.head)

    def command(self, *argv, stdin=''):
        return super().command(*('LAPTOP' if a == REALM else a for a in argv), stdin=stdin)

    def way(self, url, more='', client=''):
        """From now on the only way to the far realm."""
        before = len(self.records('reload'))
        self.configure(self.head + client + f'[realm {REALM}]\nin-band = {url}\n{more}')
        os.kill(self.pid, signal.SIGHUP)
        self.wait(lambda: len(self.records('reload')) == before + 1)
        self.seen = len(self.records())

    def carried(self, count=1, **like):
        """Records like that since the way was set, at least so many. Those of a moment before may come a moment after."""
        def found():
            return [r for r in self.records()[self.seen:] if r['event'] in ('as', 'tgs', 'carry') and r.get('door') == 'loopback' and
                    all(r.get(k) == v for k, v in like.items())]
        self.wait(lambda: len(found()) >= count)
        return found()


@pytest.fixture(scope='module')
def laptop(web, place):
    it = Laptop(place / 'inband-laptop', web.ca)
    it.start('--workers', '1')
    yield it
    assert it.stop() == 0


class Door(harness.Realm):
    """The far realm as this machine's programs see it."""

    def __init__(self, far, laptop, dir):
        self.far, self.dir, self.counter, self.host_keytab = far, dir, 0, far.host_keytab
        self.port, self.kpasswd_port = laptop.door, laptop.door

    def user(self, *options, password=PASSWORD):
        return self.far.user(*options, password=password)


@pytest.fixture
def door(far, laptop, home):
    return Door(far, laptop, home)


@pytest.fixture
def client(door, home):
    need_peer('mit')
    it = Client(door, 'mit', home, door.krb5_conf())
    it.name = door.user()
    return it


def login(client, password=PASSWORD):
    return client.run('kinit', client.name, stdin=password + '\n')


# ---- through our own acceptor ----

@pytest.mark.parametrize('how', ['http', 'https'])
def test_login_and_tickets(laptop, client, web, how):
    laptop.way(web.url if how == 'http' else web.tls_url)
    login(client).ok()
    assert f'host/{HOST}@{REALM}: kvno = ' in client.run('kvno', f'host/{HOST}').ok()
    records = laptop.carried(3)
    assert {(r['event'], r['code']) for r in records} >= {('as', 25), ('as', 0), ('tgs', 0)}
    assert {(r['transport'], r['door']) for r in records} == {('in-band', 'loopback')}, records


def test_curl_with_those_tickets(laptop, client, web):
    laptop.way(web.url)
    login(client).ok()
    text = client.run('curl', '-sS', '-i', '--noproxy', '*', '--resolve', f'{HOST}:{web.port_}:127.0.0.1', '--negotiate', '-u', ':',
                      f'http://{HOST}:{web.port_}/').ok()
    assert '200 OK' in text and 'through the small gate' in text and f'X-User: {client.name}@{REALM}' in text


def test_a_wrong_password_is_said_as_it_is(laptop, client, web):
    laptop.way(web.url)
    login(client, WRONG_PASSWORD).refused('Password incorrect')
    assert laptop.carried(code=24)


def test_an_unknown_service_is_said_as_it_is(laptop, client, web):
    laptop.way(web.url)
    login(client).ok()
    client.run('kvno', f'host/nowhere.test').refused('not found in Kerberos database')


def test_both_transports_of_the_door(laptop, web):
    laptop.way(web.url)
    for ask in ask_udp, ask_stream:
        assert error_code(ask(('127.0.0.1', laptop.door), as_req(b'nobody-of-this-name'))) == 25


# ---- programs that prove a password by a timestamp (decision 60) ----

def test_a_timestamp_is_not_shown_to_a_server_that_nobody_vouches_for(laptop, web):
    laptop.way(web.url)
    assert error_code(ask_stream(('127.0.0.1', laptop.door), as_req(proof=b'x' * 56))) == 12
    record, = laptop.carried(code=12)
    assert 'timestamp' in record['text'], record
    for policy in {'more': TIMESTAMP}, {'client': '[client]\nallow-timestamp = 127.0.0.1\n'}:
        laptop.way(web.url, **policy)
        assert error_code(ask_stream(('127.0.0.1', laptop.door), as_req(b'nobody-of-this-name', proof=b'x' * 56))) == 24
    laptop.way(web.url, client='[client]\nallow-timestamp = elsewhere.test\n')
    assert error_code(ask_stream(('127.0.0.1', laptop.door), as_req(proof=b'y' * 56))) == 12


def test_java(laptop, door, web, home):
    laptop.way(web.url)
    refused = java(door, home, door.user(), PASSWORD)
    assert refused.code != 0 and '(12)' in refused.text, refused.text
    laptop.way(web.url, TIMESTAMP)
    name = door.user()
    assert f'context 1.3.6.1.5.5.2 from {name}@{REALM} mutual true' in java(door, home, name, PASSWORD).ok()


def test_gokrb5(laptop, door, web, home, program):      # noqa: F811
    laptop.way(web.url)
    go(door, home, program, 'password', door.user(), PASSWORD).refused('KDC_ERR_POLICY')
    laptop.way(web.url, TIMESTAMP)
    name = door.user()
    assert f'ticket for host/{HOST} of {name}' in go(door, home, program, 'password', name, PASSWORD).ok()
    go(door, home, program, 'password', name, WRONG_PASSWORD).refused('KDC_ERR_PREAUTH_FAILED')


# ---- through Debian's acceptor, which speaks MIT's old dialect ----

OLD_HOST = '[client]\nold-mit = 127.0.0.1\n'


def test_an_old_acceptor(laptop, client, debian):
    laptop.way(debian.url, client=OLD_HOST)
    login(client).ok()
    client.run('kvno', f'host/{HOST}').ok()
    records = laptop.carried(3)
    assert {(r['event'], r['code'], r['transport']) for r in records} >= {('as', 25, 'in-band'), ('as', 0, 'in-band'), ('tgs', 0, 'in-band')}
    login(client, WRONG_PASSWORD).refused('Password incorrect')


def test_a_certificate_of_nobody(laptop, client, debian):
    laptop.way(debian.tls_url)
    assert error_code(ask_stream(('127.0.0.1', laptop.door), as_req())) == NO_WAY
    assert 'from nobody who is trusted here' in laptop.carried(code=86)[-1]['text']


def test_an_old_acceptor_that_is_not_known_as_one(laptop, client, debian):
    laptop.way(debian.url + 'index.html')
    login(client).refused('did not respond', 'Cannot contact any KDC')
    assert 'but not with IAKERB (MIT krb5 before 1.22: see old-mit)' in laptop.carried(code=86)[-1]['text']


def test_an_acceptor_that_is_old_no_more(laptop, client, web):
    """Configured as one that speaks the old dialect alone, and it has been upgraded since."""
    laptop.way(web.url, client=OLD_HOST)
    login(client).ok()


# ---- servers that are none ----

AP_REP = bytes.fromhex('600f06062b0601050205') + bytes.fromhex('02006f033001' + '00')
NO_REALM = bytes.fromhex(
    '60818106062b060105020505013010a10e0c0c554e4b4e4f574e2e544553547e633061a003020105a10302011ea411180f31393730303130313030303030305aa5'
    '03020100a603020155a9151b1357454c4c4b4e4f574e3a414e4f4e594d4f5553aa21301fa00302010ba11830161b0957454c4c4b4e4f574e1b09414e4f4e594d4f'
    '5553')


class Odd(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    says = {
        '/everybody': (200, []),
        '/elsewhere': (302, [('Location', '/iakerb')]),
        '/basic': (401, [('WWW-Authenticate', 'Basic realm="x"')]),
        '/mute': (401, [('WWW-Authenticate', 'Negotiate')]),
        '/garbage': (401, [('WWW-Authenticate', 'Negotiate AA=A')]),
        '/other': (401, [('WWW-Authenticate', 'Negotiate ' + base64.b64encode(b'\x60\x03\x06\x01\x05').decode())]),
        '/no-realm': (401, [('WWW-Authenticate', 'Negotiate ' + base64.b64encode(NO_REALM).decode())]),
        '/small': (431, []),
        '/down': (503, []),
        '/forbidden': (403, []),
    }

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get('Authorization', ''), self.headers.get('Host', '')))
        if self.path == '/never':
            time.sleep(6)
            return
        status, fields = self.says[self.path]
        self.send_response(status)
        for field in fields:
            self.send_header(*field)
        self.send_header('Content-Length', '4')
        self.end_headers()
        self.wfile.write(b'body')

    def log_message(self, *words):
        pass


@pytest.fixture(scope='module')
def odd():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Odd)
    server.daemon_threads = True
    server.asked = []
    server.url = f'http://127.0.0.1:{server.server_address[1]}'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.mark.parametrize('path, why', [
    ('/everybody', 'the server asks nobody for Negotiate (HTTP status 200)'),
    ('/elsewhere', 'the server sends elsewhere, which is not followed (HTTP status 302)'),
    ('/basic', 'the server does not offer Negotiate'),
    ('/mute', 'it offers Negotiate, but not with IAKERB'),
    ('/garbage', 'a Negotiate token that is no base64'),
    ('/other', 'a token of'),
    ('/no-realm', 'it knows no KDC of this realm'),
    ('/small', 'the server took no header of that size (HTTP status 431)'),
    ('/down', 'HTTP status 503'),
    ('/forbidden', 'HTTP status 403'),
    ('/never', 'no answer in '),
])
def test_servers_that_are_none(laptop, odd, path, why):
    odd.asked.clear()
    laptop.way(odd.url + path)
    began = time.monotonic()
    assert error_code(ask_stream(('127.0.0.1', laptop.door), as_req())) == NO_WAY
    assert time.monotonic() - began < 5
    record = laptop.carried(code=86)[-1]
    assert why in record['text'], record
    assert [path for path, _, _ in odd.asked] == [path], 'asked once, and nowhere else'
    assert odd.asked[0][1].startswith('Negotiate YI') and odd.asked[0][2] == odd.url[7:], odd.asked


def test_nobody_listens(laptop):
    laptop.way(f'http://127.0.0.1:{free_port()}/')
    assert error_code(ask_stream(('127.0.0.1', laptop.door), as_req())) == NO_WAY
    assert 'refused' in laptop.carried(code=86)[-1]['text'].lower()


def test_another_server_takes_over(laptop, client, odd, web):
    laptop.way(f'{odd.url}/basic {web.url}')
    login(client).ok()


class Proxy(threading.Thread):
    """CONNECT, and bytes both ways."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener, self.asked = socket.create_server(('127.0.0.1', 0)), []
        self.url = 'http://127.0.0.1:%d' % self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            near, _ = self.listener.accept()
            head = b''
            while b'\r\n\r\n' not in head:
                head += near.recv(4096)
            self.asked.append(head.split(b'\r\n')[0].decode())
            host, port = head.split()[1].decode().rsplit(':', 1)
            far = socket.create_connection((host, int(port)))
            near.sendall(b'HTTP/1.1 200 go on\r\n\r\n')
            for a, b in (near, far), (far, near):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize('how', ['http', 'https'])
def test_through_a_proxy(laptop, client, web, how):
    proxy = Proxy()
    laptop.way(web.url if how == 'http' else web.tls_url, client=f'[courier]\nhttp-proxy = {proxy.url}\n')
    login(client).ok()
    assert set(proxy.asked) == {f'CONNECT 127.0.0.1:{web.port_ if how == "http" else web.tls} HTTP/1.1'}, proxy.asked
