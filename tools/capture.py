# SPDX-License-Identifier: MIT
"""What goes over an interface, without a library: record it, then look for bytes in it or read the login tokens.

    capture.py record INTERFACE FILE    a pcap file, until it is told to end (SIGTERM)
    capture.py ports FILE               which TCP and UDP ports of which address were called, and how often
    capture.py tokens FILE              every token of HTTP Negotiate: when, whose, how long, what is in it
"""
import base64
import collections
import re
import signal
import socket
import struct
import sys

Packet = collections.namedtuple('Packet', 'time proto source sport dest dport flags seq data')
IAKERB = bytes.fromhex('06062b0601050205')
NTLM = bytes.fromhex('060a2b06010401823702020a')
MECHS = {'IAKERB': IAKERB, 'krb5': bytes.fromhex('06092a864886f712010202'), 'NTLM': NTLM}
MESSAGES = {0x6a: 'AS-REQ', 0x6b: 'AS-REP', 0x6c: 'TGS-REQ', 0x6d: 'TGS-REP', 0x7e: 'KRB-ERROR'}
INNER = {b'\x01\x00': 'AP-REQ', b'\x02\x00': 'AP-REP', b'\x03\x00': 'KRB-ERROR'}
ETH_P_ALL, PACKET_OUTGOING = 3, 4


def record(interface, path):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, 'SO_RCVBUFFORCE', 33), 64 << 20)
    sock.bind((interface, 0))
    sock.settimeout(0.2)
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    with open(path, 'wb') as out:
        out.write(struct.pack('<IHHiIII', 0xa1b23c4d, 2, 4, 0, 0, 1 << 18, 1))     # nanoseconds
        out.flush()
        import time
        while True:
            try:
                frame, whence = sock.recvfrom(1 << 18)
            except (TimeoutError, socket.timeout):
                if ending:                      # after a silence, so that nothing is left in the queue
                    return
                continue
            if interface == 'lo' and whence[2] == PACKET_OUTGOING:      # there everything is seen twice
                continue
            now = time.time_ns()
            out.write(struct.pack('<IIII', now // 10**9, now % 10**9, len(frame), len(frame)) + frame)
            out.flush()


def frames(path):
    with open(path, 'rb') as f:
        f.read(24)
        while len(head := f.read(16)) == 16:
            s, ns, n, _ = struct.unpack('<IIII', head)
            yield s + ns / 1e9, f.read(n)


def packets(path):
    """TCP and UDP over IPv4 and IPv6."""
    for at, frame in frames(path):
        kind, ip = struct.unpack('>H', frame[12:14])[0], frame[14:]
        if kind == 0x0800:
            proto, n, total = ip[9], (ip[0] & 15) * 4, struct.unpack('>H', ip[2:4])[0]
            source, dest = (socket.inet_ntop(socket.AF_INET, ip[i:i + 4]) for i in (12, 16))
        elif kind == 0x86dd:
            proto, n, total = ip[6], 40, 40 + struct.unpack('>H', ip[4:6])[0]
            source, dest = (socket.inet_ntop(socket.AF_INET6, ip[i:i + 16]) for i in (8, 24))
        else:
            continue
        body = ip[n:total] if total else ip[n:]
        if proto not in (6, 17):
            continue
        sport, dport = struct.unpack('>HH', body[:4])
        tcp = proto == 6
        seq, flags, skip = (struct.unpack('>I', body[4:8])[0], body[13], body[12] >> 4 << 2) if tcp else (0, 0, 8)
        yield Packet(at, 'tcp' if tcp else 'udp', source, sport, dest, dport, flags, seq, body[skip:])


def calls(path):
    """(protocol, address, port) -> how often: TCP connections begun, UDP datagrams sent to it."""
    seen = collections.Counter()
    for p in packets(path):
        if p.proto == 'udp' or p.flags & 0x12 == 2:
            seen[p.proto, p.dest, p.dport] += 1
    return seen


def streams(path):
    """(source, port, destination, port) -> [(time, bytes)], each byte of TCP once, in order."""
    out, expected = collections.defaultdict(list), {}
    for p in packets(path):
        if p.proto != 'tcp':
            continue
        key = p.source, p.sport, p.dest, p.dport
        if p.flags & 2:
            expected[key] = (p.seq + 1) & 0xffffffff
        elif p.data and p.seq == expected.get(key, p.seq):
            expected[key] = (p.seq + len(p.data)) & 0xffffffff
            out[key].append((p.time, p.data))
    return out


def contents(path):
    """Everything said, in each direction of each connection, and each datagram; base64 of HTTP is decoded as well."""
    for pieces in streams(path).values():
        text = b''.join(data for _, data in pieces)
        yield text
        for found in re.findall(rb'Negotiate ([A-Za-z0-9+/=]+)', text):
            yield base64.b64decode(found)
    for p in packets(path):
        if p.proto == 'udp':
            yield p.data


def der(data):
    """Where the contents of the DER value at the beginning start and end."""
    n, at = data[1], 2
    if n & 0x80:
        at = 2 + (n & 0x7f)
        n = int.from_bytes(data[2:at], 'big')
    return at, at + n


def describe(token):
    """SPNEGO or not: what the Kerberos part of it is."""
    said = []
    if token[:1] == b'\x60' and b'\x06\x06\x2b\x06\x01\x05\x05\x02' in token[:16]:
        said.append('NegTokenInit offering ' + ', '.join(name for name, oid in MECHS.items() if oid in token[:80]))
    elif token[:1] == b'\xa1':
        said.append('NegTokenResp')
    at = token.find(IAKERB, token.find(b'\x60', 1) if token[:1] == b'\x60' and said else 0)
    while at >= 0 and token[at + 8:at + 10] not in (b'\x05\x01', *INNER):
        at = token.find(IAKERB, at + 1)
    if at >= 0:
        kind, rest = token[at + 8:at + 10], token[at + 10:]
        if kind == b'\x05\x01':
            said.append('IAKERB: ' + MESSAGES.get(rest[der(rest)[1]] if len(rest) > der(rest)[1] else 0, 'which realm?'))
        else:
            said.append('IAKERB: ' + INNER[kind])
    if b'NTLMSSP' in token:
        said.append('NTLM')
    return '; '.join(said) or 'no token that is known'


def tokens(path):
    """(time, of the client, length, description)"""
    found = []
    for (_, _, _, port), pieces in streams(path).items():
        client = any(data.startswith((b'GET ', b'POST ', b'HEAD ')) for _, data in pieces)
        text, ends = b'', []
        for at, data in pieces:
            text += data
            ends.append((len(text), at))
        for m in re.finditer(rb'Negotiate ([A-Za-z0-9+/=]+)', text):
            token = base64.b64decode(m[1])
            found.append((next(at for n, at in ends if n >= m.end()), client, len(token), describe(token)))
    return sorted(found)


def main(what, *words):
    if what == 'record':
        record(*words)
    elif what == 'ports':
        for (proto, address, port), n in sorted(calls(*words).items()):
            print(f'{proto} {address} port {port}: {n}')
    else:
        all_of_them = tokens(*words)
        for at, client, n, text in all_of_them:
            print(f'{(at - all_of_them[0][0]) * 1000:7.1f} ms  {"laptop -> nas1" if client else "laptop <- nas1"}  {n:5d} bytes  {text}')


if __name__ == '__main__':
    main(*sys.argv[1:])
