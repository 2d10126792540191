# SPDX-License-Identifier: MIT
"""A courier for tests: what acceptors ask of it goes to a KDC over TCP, for a realm that no sallyportd serves.
courier_stand.py SOCKET REALM HOST PORT"""
import socket
import struct
import sys
import threading

CARRY, CARRIED, REFUSED, HELLO, REALM = 1, 2, 3, 4, 5
TLV_REALM, TLV_MESSAGE, TLV_CODE, TLV_TEXT = 1, 2, 6, 7
LONG_FORM = 0x80
NO_WAY, NO_ANSWER = 85, 86


def exactly(sock, n):
    data = b''
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def fields(data):
    found = {}
    while data:
        kind, n, at = data[0], struct.unpack('>H', data[1:3])[0], 3
        if kind & LONG_FORM:
            n, at = int.from_bytes(data[1:4], 'big'), 4
        found[kind & ~LONG_FORM] = data[at:at + n]
        data = data[at + n:]
    return found


def field(kind, value):
    if len(value) > 0xffff:
        return bytes([kind | LONG_FORM]) + len(value).to_bytes(3, 'big') + value
    return struct.pack('>BH', kind, len(value)) + value


def ask(message):
    with socket.create_connection((host, port), 4) as kdc:
        kdc.sendall(struct.pack('>I', len(message)) + message)
        return exactly(kdc, struct.unpack('>I', exactly(kdc, 4))[0])


def refusal(code, text):
    return REFUSED, field(TLV_CODE, struct.pack('>I', code)) + field(TLV_TEXT, text.encode())


def answer(kind, asked):
    if kind == HELLO:
        return REALM, field(TLV_REALM, realm.encode())
    if kind != CARRY or asked.get(TLV_REALM, b'').decode().upper() != realm:
        return refusal(NO_WAY, 'no way to that realm')
    try:
        return CARRIED, field(TLV_MESSAGE, ask(asked[TLV_MESSAGE]))
    except (OSError, EOFError) as e:
        return refusal(NO_ANSWER, str(e))


def serve(sock):
    try:
        while True:
            frame = exactly(sock, struct.unpack('>I', exactly(sock, 4))[0])
            kind, said = answer(frame[1], fields(frame[6:]))
            said = struct.pack('>BB', 1, kind) + frame[2:6] + said
            sock.sendall(struct.pack('>I', len(said)) + said)
    except (EOFError, OSError):
        sock.close()


path, realm, host, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print('ready', flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
