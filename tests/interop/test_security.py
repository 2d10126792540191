# SPDX-License-Identifier: MIT
"""What acceptors and initiators do when the other side, the courier or the KDC does wrong; case numbers are those of the
project's security list. What needs no process or socket is in tests/sec.c, tests/kctx.c and tests/client.c."""
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import PASSWORD, REALM, free_port, need_peer, peer, run
from test_courier import CARRIED, CARRY, HELLO, REALM_IS, REFUSED, T_CODE, T_MESSAGE, T_REALM, T_TEXT, packet, tlv, unpack
from test_daemon import as_req, contents, der, error_code, frame, receive_frame
from test_iakerb import PLUGIN, SERVICE, TARGET, Local, User, wait_for_listener

IAKERB_OID = bytes.fromhex('06062b0601050205')
SAYS_86 = "the server's KDC does not answer"
WAITS_S = 5


@pytest.fixture(scope='module')
def local(place):
    assert PLUGIN.exists(), f'{PLUGIN} is not built'
    it = Local(place / 'security')
    yield it
    it.close()


@pytest.fixture
def user(local, home):
    return User(local, home)


def wait_for(condition, patience=10):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.05)


# ---- a courier that does wrong ----

def unix_at(directory, connecting=False, timeout=10):
    """A UNIX path holds 107 bytes: the directory is reached by its descriptor."""
    fd = os.open(directory, os.O_PATH)
    try:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        (s.connect if connecting else s.bind)(f'/proc/self/fd/{fd}/courier.sock')
        return s
    finally:
        os.close(fd)


def forward(local, message):
    with unix_at(local.realm.root / 'run/sallyport', connecting=True) as s:
        s.sendall(packet(CARRY, 1, (T_REALM, REALM.encode()), (T_MESSAGE, message)))
        return dict(unpack(receive_frame(s))[2])[T_MESSAGE]


class Courier:
    """The acceptors' end of a socket under a root of its own. What happens to a request that `picks` picks is up to `how`, a
    function of the connection, the request's id and the bytes; the others go to the real courier."""

    def __init__(self, local, home, how=None, picks=lambda message: True):
        self.local, self.how, self.picks, self.root = local, how, picks, home / 'rogue'
        (self.root / 'run/sallyport').mkdir(parents=True)
        self.listener = unix_at(self.root / 'run/sallyport')
        self.listener.settimeout(None)
        self.listener.listen(512)
        self.seen, self.ended = [], threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.ended.is_set():
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        s.settimeout(30)
        with s:
            try:
                while got := receive_frame(s):
                    self.answer(s, *unpack(got))
            except OSError:
                pass

    def answer(self, s, kind, number, tlvs):
        message = dict(tlvs).get(T_MESSAGE, b'')
        if kind == HELLO:
            s.sendall(packet(REALM_IS, number, (T_REALM, REALM.encode())))
        elif self.how and self.picks(message):
            self.seen.append(time.monotonic())
            self.how(self, s, number, message)
        else:
            s.sendall(packet(CARRIED, number, (T_MESSAGE, forward(self.local, message))))

    def close(self):
        self.ended.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def says(*data):
    def how(self, s, number, message):
        for d in data:
            s.sendall(d(number, message) if callable(d) else d)
        self.ended.wait(20)
    return how


def carried(reply):
    return lambda number, message: packet(CARRIED, number, (T_MESSAGE, reply(message)))


def trickle(self, s, number, message):
    for b in packet(CARRIED, number, (T_MESSAGE, as_req())):
        s.sendall(bytes([b]))
        if self.ended.wait(0.2):
            return


def other_ids(self, s, number, message):
    while not self.ended.is_set():
        s.sendall(packet(CARRIED, number + 1000, (T_MESSAGE, b'\x7e\x00')) * 50)


def hang_up(self, s, number, message):
    s.shutdown(socket.SHUT_RDWR)


def long_error(message):
    """A KRB-ERROR as it should be, but for 100,000 bytes of e-data."""
    data = b'\xac\x83' + (100004).to_bytes(3, 'big') + b'\x04\x83' + (99999).to_bytes(3, 'big') + bytes(99999)
    body = (der(0xa0, b'\2\1\5') + der(0xa1, b'\2\1\x1e') + der(0xa4, der(0x18, b'20300101000000Z')) + der(0xa5, b'\2\1\0') +
            der(0xa6, b'\2\1\x19') + der(0xa9, der(0x1b, REALM.encode())) +
            der(0xaa, der(0x30, der(0xa0, b'\2\1\2') + der(0xa1, der(0x30, der(0x1b, b'x'))))) + data)
    for tag in 0x30, 0x7e:
        body = bytes([tag, 0x83]) + len(body).to_bytes(3, 'big') + body
    return body


WRONGS = {
    # T064: the KDC is silent, or slow, or gone
    'silent': says(),
    'half an answer': says(struct.pack('>I', 100) + bytes(10)),
    'a byte at a time': trickle,
    'hangs up': hang_up,
    'answers others': other_ids,
    # T063: what it says of its lengths
    'four thousand million bytes': says(b'\xff\xff\xff\xff'),
    'a byte too many': says(struct.pack('>I', 128 * 1024 + 1)),
    'no bytes': says(bytes(4)),
    'a field beyond the end': says(lambda n, _: frame(bytes([1, CARRIED]) + struct.pack('>I', n) + b'\2\xff\xff')),
    'a long field beyond the end': says(lambda n, _: frame(bytes([1, CARRIED]) + struct.pack('>I', n) + b'\x82\xff\xff\xff')),
    'another version': says(lambda n, _: frame(bytes([9, CARRIED]) + struct.pack('>I', n) + tlv(T_MESSAGE, b'x'))),
    'no message': says(lambda n, _: packet(CARRIED, n)),
    'junk': says(carried(lambda m: os.urandom(500))),
    'an error cut short': says(carried(lambda m: forward_error[:-1])),
    'an error and a byte': says(carried(lambda m: forward_error + b'\0')),
    'an error of 100 kB': says(carried(long_error)),
    'the request': says(carried(lambda m: m)),
    'a refusal without a code': says(lambda n, _: packet(REFUSED, n, (T_CODE, bytes(4)), (T_TEXT, b'no' * 30000))),
}
forward_error = b''


@pytest.mark.parametrize('wrong', WRONGS)
def test_t063_t064_a_courier_that_does_wrong(local, user, home, wrong):
    """The client hears of it in time, and whoever comes next is served."""
    global forward_error
    forward_error = forward_error or forward(local, as_req())
    rogue = Courier(local, home, WRONGS[wrong])
    try:
        port = local.serve(root=rogue.root)
        began = time.monotonic()
        user.connect(port, '--mech', 'iakerb').refused(SAYS_86)
        assert rogue.seen and time.monotonic() - began < WAITS_S + 1.5
        rogue.how = None
        assert json.loads(user.connect(port, '--mech', 'iakerb').ok())['client'] == user.who
    finally:
        rogue.close()


@pytest.mark.parametrize('way', ['absent', 'nobody listens', 'the queue is full'])
def test_t064_a_courier_that_cannot_be_reached(local, user, home, way):
    root = home / 'bare'
    (root / 'run/sallyport').mkdir(parents=True)
    held = []
    if way != 'absent':
        held.append(unix_at(root / 'run/sallyport'))
    if way == 'the queue is full':
        held[0].listen(0)
        held += [unix_at(root / 'run/sallyport', connecting=True)]
    try:
        port = local.serve(root=root)
        began = time.monotonic()
        user.connect(port, '--mech', 'iakerb').refused(SAYS_86, 'the server knows no KDC')
        assert time.monotonic() - began < WAITS_S + 1.5
    finally:
        for s in held:
            s.close()


# ---- contexts by hand, as clients of `sallyport gss serve` ----

def proxied(message, realm=REALM.encode()):
    header = der(0x30, der(0xa1, der(0x0c, realm)))
    return der(0x60, IAKERB_OID + b'\5\1' + header + message)


def message_of(token):
    """The KDC's message in an acceptor's reply."""
    (tag, inner), = contents(token)
    assert tag == 0x60 and inner.startswith(IAKERB_OID + b'\5\1'), token[:40].hex()
    inner = inner[len(IAKERB_OID) + 2:]
    return inner[2 + inner[1]:]


def asking(port, *messages):
    s = socket.create_connection(('127.0.0.1', port), 20)
    for m in messages:
        s.sendall(frame(proxied(m)))
    return s


def test_t064_a_hundred_others_go_on(local, home):
    """One request is never answered; the contexts that come meanwhile are, at once, and the one hears 86 in time."""
    rogue = Courier(local, home, says(), picks=lambda message: b'slow-user' in message)
    try:
        port, nonce = local.serve(root=rogue.root), 5000
        began = time.monotonic()
        with asking(port, as_req(client=b'slow-user')) as slow:
            others = [asking(port, as_req(nonce=nonce + i)) for i in range(100)]
            for s in others:
                assert error_code(message_of(receive_frame(s))) == 25
                s.close()
            assert time.monotonic() - began < 4.5, 'the others waited, too'
            assert error_code(message_of(receive_frame(slow))) == 86
            assert time.monotonic() - began < WAITS_S + 1
            slow.sendall(frame(proxied(as_req(client=b'slow-user', nonce=7))))      # the context lives on, and hears it again
            assert error_code(message_of(receive_frame(slow))) == 86
    finally:
        rogue.close()


def test_p42_tries_in_one_context(local):
    """Three wrong proofs of one user; neither a fourth nor another user."""
    port, name = local.serve(), local.realm.user().encode()

    def wrong(n):
        return as_req(client=name, nonce=100 + n, proof=bytes([n]) * 60)
    with asking(port) as s:
        for n in range(3):
            s.sendall(frame(proxied(wrong(n))))
            assert error_code(message_of(receive_frame(s))) == 24
        s.sendall(frame(proxied(wrong(3))))
        assert not receive_frame(s)
    with asking(port, as_req(client=name, nonce=200)) as s:
        assert error_code(message_of(receive_frame(s))) == 25
        s.sendall(frame(proxied(as_req(nonce=201))))
        assert not receive_frame(s)
    assert [json.loads(line) for line in local.servers[-1].said().splitlines() if 'client' in line] == []


HOSTILE = [b'a\nb', b'\x1b[31mred\x1b[0m', b'"},{"ts":1', b'%s%n%99999d', b'$(touch /tmp/sallyport-was-here)', b'`id`', b'..' * 99,
           b'\xe2\x80\xae' + b'rtl', b'\xff\xfe', b'x' * 60000]


def test_t089_names_that_are_meant_for_the_log(local):
    """Whatever a name holds, a record is one line of JSON, and says what came."""
    path, port = local.realm.records(), local.serve()
    before = len(path.read_bytes().splitlines())
    for i, hostile in enumerate(HOSTILE):
        with asking(port, as_req(client=hostile, nonce=9000 + i)) as s:
            receive_frame(s)                                            # an answer, or the end: neither is the point
    wait_for(lambda: len(path.read_bytes().splitlines()) >= before + 5)
    lines = path.read_bytes().splitlines()[before:]
    records = [json.loads(line) for line in lines]
    assert len(records) >= 5 and all(isinstance(r, dict) and 'ts' in r and 'event' in r for r in records), lines
    assert all(b < 0x7f and b >= 0x20 for line in lines for b in line), 'bytes that a terminal would act on'
    assert max(map(len, lines)) < 8192
    said = ' '.join(r.get('client', '') for r in records)
    assert 'touch' in said and not os.path.exists('/tmp/sallyport-was-here')


# ---- delegation ----

@pytest.fixture(scope='module')
def forwarding(place):
    """A realm whose tickets may be forwarded."""
    it = Local(place / 'forwarding')
    (it.realm.root / 'etc/sallyport/conf.d/forward.conf').write_text('[kdc]\nforwardable = yes\n')
    os.kill(it.realm.server.process.pid, signal.SIGHUP)
    wait_for(lambda: '"reload"' in it.realm.records().read_text())
    yield it
    it.close()


def flags_and_tokens(local, user, *options, **more):
    port = local.serve()
    told = json.loads(user.connect(port, *options, **more).ok())
    return set(told['flags']), set(local.accepted()[-1]['flags']), told['tokens']


@pytest.mark.parametrize('mech', ['iakerb', 'spnego'])
def test_delegation_through_iakerb(forwarding, home, mech):
    """A round trip more for whoever asks, nothing for others; what comes of it is in both sides' flags."""
    user = User(forwarding, home)
    ours, theirs, plain = flags_and_tokens(forwarding, user, '--mech', mech, '--flags', 'mutual')
    assert 'deleg' not in ours | theirs
    ours, theirs, more = flags_and_tokens(forwarding, user, '--mech', mech, '--flags', 'mutual,deleg')
    assert 'deleg' in ours & theirs and more == plain + 1, (ours, theirs, plain, more)


def test_t079_no_delegation_where_policy_forbids_it(local, user):
    ours, theirs, _ = flags_and_tokens(local, user, '--mech', 'iakerb', '--flags', 'mutual,deleg')
    assert 'deleg' not in ours | theirs


FRAMES = '''
import json, socket, struct, sys
import gssapi
def exactly(s, n):
    b = b''
    while len(b) < n:
        b += s.recv(n - len(b)) or sys.exit('gone')
    return b
def receive(s):
    return exactly(s, struct.unpack('>I', exactly(s, 4))[0])
def send(s, token):
    if token:
        s.sendall(struct.pack('>I', len(token)) + token)
'''

ACCEPT = FRAMES + '''
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
s, _ = listener.accept()
context = gssapi.SecurityContext(creds=gssapi.Credentials(usage='accept', store={'keytab': sys.argv[2]}), usage='accept')
while not context.complete:
    send(s, context.step(receive(s)))
context.delegated_creds.store(store={'ccache': sys.argv[3]}, usage='initiate', overwrite=True)
print(json.dumps({'client': str(context.initiator_name), 'delegated': str(context.delegated_creds.name)}))
'''


def test_a_delegated_ticket_is_of_use(forwarding, home):
    """Through our mechanism under python3-gssapi, into a file, and from there to a stock kinit's KDC."""
    need_peer('gss')
    user, port, store = User(forwarding, home), free_port(), home / 'delegated'
    argv = peer('gss', '/usr/bin/python3', '-c', ACCEPT, port, forwarding.keytab, f'FILE:{store}')
    process = subprocess.Popen([str(a) for a in argv], env=user.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for_listener(port, process)
        user.connect(port, '--mech', 'iakerb', '--flags', 'mutual,deleg')
        text, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert json.loads(text.splitlines()[-1]) == {'client': user.who, 'delegated': user.who}, text
    env = dict(user.env, KRB5CCNAME=f'FILE:{store}', KRB5_CONFIG=str(forwarding.realm.krb5_conf()))
    assert 'Flags: Ff' in run(peer('mit', 'klist', '-f'), env=env).ok().replace('flags', 'Flags')
    run(peer('mit', 'kvno', SERVICE), env=env).ok()


INITIATE = FRAMES + '''
flag = gssapi.RequirementFlag
context = gssapi.SecurityContext(name=gssapi.Name(sys.argv[2], gssapi.NameType.hostbased_service), usage='initiate',
                                 mech=gssapi.OID.from_int_seq('1.3.6.1.5.2.5'), flags=[flag.mutual_authentication, flag.delegate_to_peer])
s, token = socket.create_connection(('127.0.0.1', int(sys.argv[1]))), None
while not context.complete:
    send(s, context.step(token))
    token = None if context.complete else receive(s)
print(json.dumps({'delegated': flag.delegate_to_peer in context.actual_flags}))
'''


@pytest.mark.parametrize('forwardable', [True, False])
def test_delegation_of_what_is_in_the_cache(forwarding, home, forwardable):
    """python3-gssapi through our mechanism: with a TGT that may be forwarded, first without and then with the service's ticket."""
    need_peer('gss')
    user, port = User(forwarding, home), forwarding.serve()
    need_peer('mit')
    run(peer('mit', 'kinit', '-f' if forwardable else '-F', user.who), stdin=PASSWORD + '\n',
        env=dict(user.env, KRB5_CONFIG=str(forwarding.realm.krb5_conf()))).ok()
    for tokens in (3, 2) if forwardable else (2, 1):
        text = run(peer('gss', '/usr/bin/python3', '-c', INITIATE, port, TARGET), env=dict(user.env, SALLYPORT_ROOT=str(home))).ok()
        assert json.loads(text)['delegated'] == forwardable
        accepted = forwarding.accepted()[-1]
        assert ('deleg' in accepted['flags']) == forwardable and accepted['tokens'] == tokens, accepted
