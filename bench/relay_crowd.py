#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Bad company for a relay: idle TLS connections, and requests for realms whose KDCs never answer. From many addresses of
10.99.0.0/16, which bench/relay makes this host's: a relay counts by source, and all of loopback is one to ours. relay_crowd.py PORT IDLE REALMS PER_SECOND; says "ready" when all connections stand
and the first requests are under way, and at SIGTERM prints what was answered as one JSON object."""
import asyncio
import collections
import json
import os
import signal
import ssl
import sys
import time

SOURCES = 200
ASKERS = 64         # connections that requests go by; each has one under way
PATIENCE_S = 20


def tlv(tag, body):
    n = len(body)
    size = bytes([n]) if n < 128 else bytes([0x81, n]) if n < 256 else bytes([0x82, n >> 8, n & 255])
    return bytes([tag]) + size + body


def name(kind, *parts):
    words = b''.join(tlv(0x1b, p.encode()) for p in parts)
    return tlv(0x30, tlv(0xa0, tlv(2, bytes([kind]))) + tlv(0xa1, tlv(0x30, words)))


def as_req(realm):
    body = tlv(0x30, tlv(0xa0, tlv(3, bytes(5))) + tlv(0xa1, name(1, 'alice')) + tlv(0xa2, tlv(0x1b, realm.encode()))
               + tlv(0xa3, name(2, 'krbtgt', realm)) + tlv(0xa5, tlv(0x18, b'20370101000000Z'))
               + tlv(0xa7, tlv(2, b'\x40' + os.urandom(3))) + tlv(0xa8, tlv(0x30, tlv(2, b'\x12'))))
    return tlv(0x6a, tlv(0x30, tlv(0xa1, tlv(2, b'\5')) + tlv(0xa2, tlv(2, b'\x0a')) + tlv(0xa4, body)))


def post(realm):
    message = as_req(realm)
    body = tlv(0x30, tlv(0xa0, tlv(4, len(message).to_bytes(4, 'big') + message)) + tlv(0xa1, tlv(0x1b, realm.encode())))
    return (f'POST /KdcProxy HTTP/1.1\r\nHost: relay.bench.test\r\nContent-Type: application/kerberos\r\nContent-Length: {len(body)}\r\n\r\n'
            .encode() + body)


class Crowd:
    def __init__(self, port, idle, realms, per_second):
        self.port, self.idle, self.realms, self.per_second = port, idle, realms, per_second
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.count, self.waited_s, self.serial, self.standing = collections.Counter(), [], 0, 0

    async def connect(self, i):
        return await asyncio.open_connection('127.0.0.1', self.port, ssl=self.tls, local_addr=(f'10.99.1.{1 + i % SOURCES}', 0))

    async def rest(self, i, gate):
        """One connection that asks nothing, and comes again when it is closed."""
        while True:
            async with gate:
                reader, writer = await self.connect(i)
            self.standing += 1
            await reader.read(1)
            self.standing -= 1
            self.count['idle connections closed'] += 1
            writer.close()

    async def ask_one(self, reader, writer):
        realm = f'SLOW{self.serial % self.realms}.TEST'
        self.serial += 1
        began = time.monotonic()
        writer.write(post(realm))
        head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), PATIENCE_S)
        self.waited_s.append(time.monotonic() - began)
        fields = dict(line.lower().split(b':', 1) for line in head.split(b'\r\n')[1:] if b':' in line)
        await reader.readexactly(int(fields.get(b'content-length', b'0')))
        self.count[head.split(b' ', 2)[1].decode()] += 1
        return fields.get(b'connection', b'').strip() != b'close'

    async def ask(self, i):
        """At its share of the rate, later where the one before has not been answered."""
        due, line = time.monotonic() + i / self.per_second, None
        while True:
            await asyncio.sleep(max(0, due - time.monotonic()))
            due = max(due + ASKERS / self.per_second, time.monotonic() - 1)
            try:
                line = line or await self.connect(i)
                if await self.ask_one(*line):
                    continue
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as e:
                self.count[type(e).__name__] += 1
            if line:
                line[1].close()
            line = None

    async def run(self):
        over, gate = asyncio.Event(), asyncio.Semaphore(32)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        tasks = [asyncio.ensure_future(self.rest(i, gate)) for i in range(self.idle)]
        while self.standing < self.idle:
            for t in tasks:
                if t.done():
                    t.result()
            await asyncio.sleep(0.05)
        tasks += [asyncio.ensure_future(self.ask(i)) for i in range(ASKERS)]
        await asyncio.sleep(1)
        print('ready', flush=True)
        await over.wait()
        waited = sorted(self.waited_s)
        print(json.dumps({'standing': self.standing, 'asked': self.serial, 'answers': self.count,
                          'median_wait_s': round(waited[len(waited) // 2], 3) if waited else None}), flush=True)
        os._exit(0)


if __name__ == '__main__':
    asyncio.run(Crowd(*(int(a) for a in sys.argv[1:5])).run())
