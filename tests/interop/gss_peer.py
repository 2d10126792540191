# SPDX-License-Identifier: MIT
"""python3-gssapi at one end of a context over TCP, in frames with four bytes of length, as `sallyport gss` speaks them.
One line of JSON at the end. Which library answers for a mechanism is up to GSS_MECH_CONFIG.

    gss_peer.py initiate PORT SERVICE@HOST [--mech MECH] [--user NAME --password PASSWORD]
    gss_peer.py accept PORT KEYTAB [--mech MECH] [--times N]
    gss_peer.py postgres PORT postgres@HOST --user NAME      not in such frames: PostgreSQL's protocol, and one query
"""
import argparse
import json
import socket
import struct
import sys

import gssapi
import gssapi.raw

MECHS = {'iakerb': '1.3.6.1.5.2.5', 'spnego': '1.3.6.1.5.5.2', 'krb5': '1.2.840.113554.1.2.2'}
PAC = b'urn:mspac:'


def exactly(sock, n):
    data = b''
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise EOFError('the peer is gone')
        data += more
    return data


def receive(sock):
    return exactly(sock, struct.unpack('>I', exactly(sock, 4))[0])


def send(sock, data):
    sock.sendall(struct.pack('>I', len(data)) + data)


def mech_of(options):
    return gssapi.OID.from_int_seq(MECHS[options.mech])


def establish(context, sock, token=None):
    while True:
        token = context.step(token)
        if token:
            send(sock, token)
        if context.complete:
            return
        token = receive(sock)


def told(context, **more):
    mech = next((name for name, oid in MECHS.items() if gssapi.OID.from_int_seq(oid) == context.mech), str(context.mech))
    return dict(client=str(context.initiator_name), service=str(context.target_name), mech=mech, **more)


def initiate(options):
    user = gssapi.Name(options.user, gssapi.NameType.user) if options.user else None
    if options.password:
        got = gssapi.raw.acquire_cred_with_password(user, options.password.encode(), mechs=[mech_of(options)], usage='initiate')
        cred = gssapi.Credentials(got.creds)
    else:
        cred = None
    flags = [getattr(gssapi.RequirementFlag, f) for f in ('mutual_authentication', 'replay_detection', 'out_of_sequence_detection',
                                                          'confidentiality', 'integrity')]
    context = gssapi.SecurityContext(name=gssapi.Name(options.who, gssapi.NameType.hostbased_service), creds=cred,
                                     mech=mech_of(options), flags=flags, usage='initiate')
    with socket.create_connection(('127.0.0.1', options.port), 20) as sock:
        establish(context, sock)
        send(sock, context.wrap(b'good day', True).message)
        return told(context, echo=context.unwrap(receive(sock)).message.decode())


def attributes(context):
    """What the ticket says beyond a name, by length."""
    try:
        found = context.initiator_name.attributes
        return {key.decode(): len(list(found[key].values)[0]) for key in found if key.startswith(PAC)}
    except (gssapi.exceptions.GSSError, KeyError, NotImplementedError, AttributeError):
        return {}


def accept_one(sock, options):
    cred = gssapi.Credentials(usage='accept', mechs=[mech_of(options)], store={'keytab': options.who})
    context = gssapi.SecurityContext(creds=cred, usage='accept')
    try:
        establish(context, sock, receive(sock))
        said = told(context, attributes=attributes(context))
        asked = context.unwrap(receive(sock))
        send(sock, context.wrap(asked.message, asked.encrypted).message)
        return dict(said, echo=asked.message.decode())
    except (gssapi.exceptions.GSSError, EOFError, ConnectionError) as e:
        return dict(error=' '.join(str(e).split()))


def accept(options):
    listener = socket.create_server(('127.0.0.1', options.port))
    for _ in range(options.times):
        sock = listener.accept()[0]
        with sock:
            sock.settimeout(30)
            print(json.dumps(accept_one(sock, options)), flush=True)


def message(sock):
    """One of PostgreSQL's: its type and its body."""
    kind, n = struct.unpack('>cI', exactly(sock, 5))
    return kind, exactly(sock, n - 4)


def pass_token(sock, token):
    sock.sendall(b'p' + struct.pack('>I', len(token) + 4) + token)


def query(sock, text):
    sock.sendall(b'Q' + struct.pack('>I', len(text) + 5) + text.encode() + b'\0')
    while True:
        kind, body = message(sock)
        if kind == b'D':
            return body[6:].decode()
        if kind == b'E':
            raise OSError(body.decode(errors='replace'))


def postgres(options):
    """libpq asks for krb5 by name; this asks for the mechanism it is told."""
    context = gssapi.SecurityContext(name=gssapi.Name(options.who, gssapi.NameType.hostbased_service), mech=mech_of(options),
                                     flags=[gssapi.RequirementFlag.mutual_authentication], usage='initiate')
    start = b''.join(w.encode() + b'\0' for w in ('user', options.user, 'database', 'postgres')) + b'\0'
    tokens = 0
    with socket.create_connection((options.who.split('@')[1], options.port), 20) as sock:
        sock.sendall(struct.pack('>II', len(start) + 8, 3 << 16) + start)
        while True:
            kind, body = message(sock)
            code = struct.unpack('>I', body[:4])[0] if kind == b'R' else None
            if code == 0:
                return told(context, tokens=tokens, current_user=query(sock, 'select current_user'))
            if code not in (7, 8):          # AuthenticationGSS, AuthenticationGSSContinue
                raise OSError(body.decode(errors='replace'))
            token = context.step(body[4:] or None)
            if token:
                tokens += 1
                pass_token(sock, token)


parser = argparse.ArgumentParser()
parser.add_argument('role', choices=['initiate', 'accept', 'postgres'])
parser.add_argument('port', type=int)
parser.add_argument('who')
parser.add_argument('--mech', default='iakerb', choices=MECHS)
parser.add_argument('--user')
parser.add_argument('--password')
parser.add_argument('--times', type=int, default=1)
words = parser.parse_args()
if words.role == 'accept':
    accept(words)
else:
    try:
        print(json.dumps(initiate(words) if words.role == 'initiate' else postgres(words)))
    except (gssapi.exceptions.GSSError, EOFError, OSError) as e:
        print(json.dumps(dict(error=' '.join(str(e).split()))))
        sys.exit(1)
