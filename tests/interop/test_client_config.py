# SPDX-License-Identifier: MIT
"""What `sallyport client-config` prints, read by the stock programs that it is for."""
import http.server
import re
import socket
import ssl
import struct
import threading

import pytest

from harness import HOST, OTHER_PASSWORD, PASSWORD, SALLYPORT, Client, need_peer, run


def take(der, tag):
    """The inside of the element that der begins with, and what is behind it."""
    assert der[0] == tag, der[:8].hex()
    n, at = der[1], 2
    if n >= 0x80:
        at += n - 0x80
        n = int.from_bytes(der[2:at], 'big')
    return der[at:at + n], der[at + n:]


def make(tag, inside):
    n = len(inside)
    size = bytes([n]) if n < 0x80 else bytes([0x82]) + struct.pack('>H', n)
    return bytes([tag]) + size + inside


def exchange(port, message):
    """One request over TCP; message has its length before it, and so has the reply."""
    with socket.create_connection(('127.0.0.1', port), 10) as s, s.makefile('rb') as back:
        s.sendall(message)
        head = back.read(4)
        return head + back.read(struct.unpack('>I', head)[0])


class Relay:
    """MS-KKDCP as [MS-KKDCP] 2.2.2 has it, over TLS, in as few lines as can be; password changes go by their own port."""

    def __init__(self, home, realm):
        self.seen = seen = []
        self.certificate = home / 'relay.pem'
        run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=relay.test', '-addext',
             'subjectAltName=IP:127.0.0.1', '-keyout', home / 'relay.key', '-out', self.certificate]).ok()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                fields, rest = take(self.rfile.read(int(self.headers['Content-Length'])), 0x30)
                message, more = take(fields, 0xa0)
                message, _ = take(message, 0x04)
                target = take(take(more, 0xa1)[0], 0x1b)[0].decode()
                seen.append((self.path, target, message[4]))
                port = realm.port if message[4] in (0x6a, 0x6c) else realm.kpasswd_port
                reply = make(0x30, make(0xa0, make(0x04, exchange(port, message))))
                self.send_response(200)
                self.send_header('Content-Type', 'application/kerberos')
                self.send_header('Content-Length', str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, home / 'relay.key')
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f'https://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def relay(realm, home):
    realm.need('client-config')
    need_peer('mit')
    it = Relay(home, realm)
    yield it
    it.server.shutdown()
    it.server.server_close()


def printed(realm, home, relay, *options):
    conf = home / 'printed.conf'
    conf.write_text(realm.command('client-config', '--relay', relay.url, *options).ok())
    return Client(realm, 'mit', home, conf)


@pytest.fixture
def changes(realm):
    """[relay] kpasswd, for what is printed."""
    snippet = realm.root / 'etc/sallyport/conf.d/relay.conf'
    snippet.write_text('[relay]\nkpasswd = yes\n')
    yield
    snippet.unlink()


def test_mit_through_a_relay(realm, home, relay):
    client, who = printed(realm, home, relay, '--ca', relay.certificate), realm.user()
    client.run('kinit', who, stdin=PASSWORD + '\n').ok()
    client.run('kvno', f'host/{HOST}').ok()
    assert {kind for _, _, kind in relay.seen} == {0x6a, 0x6c}, relay.seen
    assert {(path, target) for path, target, _ in relay.seen} == {('/KdcProxy', realm.name)}
    assert not re.search(r'(dgram|stream) 127', client.traced())


def test_mit_changes_a_password_through_a_relay(realm, home, relay, changes):
    client, who = printed(realm, home, relay, '--ca', relay.certificate), realm.user()
    client.converse(['kpasswd', who], [('Password for', PASSWORD), ('Enter new', OTHER_PASSWORD),
                                       ('Enter it again', OTHER_PASSWORD)]).ok()
    client.run('kinit', who, stdin=OTHER_PASSWORD + '\n').ok()
    assert [kind for _, _, kind in relay.seen if kind not in (0x6a, 0x6c)], relay.seen


def test_mit_wants_the_relays_ca(realm, home, relay):
    client = printed(realm, home, relay)
    client.run('kinit', realm.user(), stdin=PASSWORD + '\n').refused('Cannot contact any KDC')
    assert relay.seen == []


@pytest.mark.parametrize('kind, ticket', [('mit', 'kvno'), ('heimdal', 'kgetcred')])
def test_a_carried_realm_at_its_door(realm, home, kind, ticket):
    """The door is where the running KDC listens: what counts here is how programs read its address."""
    realm.need('client-config')
    need_peer(kind)
    root = home / 'root'
    run([SALLYPORT, 'init', '--realm', 'LOCAL', '--root', root]).ok()
    snippets = root / 'etc/sallyport/conf.d'
    snippets.mkdir(parents=True, exist_ok=True)
    (snippets / 'carried.conf').write_text(f'[courier]\nlisten-kdc = 127.0.0.1:{realm.port}\n'
                                           f'[realm {realm.name}]\nkdc = 192.0.2.1\n')
    conf = home / 'printed.conf'
    conf.write_text(run([SALLYPORT, 'client-config', '--for', kind, '--root', root]).ok())
    client = Client(realm, kind, home, conf)
    client.run('kinit', f'{realm.user()}@{realm.name}', stdin=PASSWORD + '\n').ok()
    client.run(ticket, f'host/{HOST}@{realm.name}').ok()
