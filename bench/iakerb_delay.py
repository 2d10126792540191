# SPDX-License-Identifier: MIT
"""Logins over a link with a delay: `sallyport gss connect` on one side, `sallyport gss serve` and the daemon on the other.

The link is a delay line in user space between two tun devices, for kernels without netem. A login lasts from the client's SYN
to the arrival of the acceptor's last token, both seen on the line: the TCP connect and string-to-key are in it, the echo that
the commands exchange afterwards is not. Needs root, and runs in network namespaces of its own.
"""
import fcntl
import heapq
import json
import os
import select
import statistics
import struct
import subprocess
import threading
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
CLIENT, SERVER, PORT = '10.77.0.1', '10.77.0.2', 4444
REALM, USER, PASSWORD, SERVICE = 'DELAY.TEST', 'alice', 'correct horse battery', 'HTTP/delay.test'
SYN = 2


def open_tun(name):
    fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack('16sH22x', name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


class Line(threading.Thread):
    """Passes packets on after `one_way` seconds, and notes the TCP ones: (from the client?, came, left, flags, bytes)."""

    def __init__(self, client, server, one_way):
        super().__init__(daemon=True)
        self.fds, self.one_way, self.seen, self.over = (client, server), one_way, [], False

    def note(self, packet, from_client, came):
        if packet[0] >> 4 != 4 or packet[9] != 6:
            return
        head = (packet[0] & 15) * 4
        size = len(packet) - head - (packet[head + 12] >> 4) * 4
        self.seen.append((from_client, came, time.monotonic(), packet[head + 13], size))

    def run(self):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
        except PermissionError:
            pass
        waiting, serial = [], 0
        while not self.over:
            patience = max(0, waiting[0][0] - time.monotonic()) if waiting else 0.1
            for fd in select.select(self.fds, [], [], patience)[0]:
                now = time.monotonic()
                heapq.heappush(waiting, (now + self.one_way, serial := serial + 1, fd == self.fds[0], now, os.read(fd, 65536)))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, from_client, came, packet = heapq.heappop(waiting)
                os.write(self.fds[from_client], packet)
                self.note(packet, from_client, came)


def connect_ms(seen):
    """The round trip as TCP has it: from SYN to the arrival of SYN and ACK."""
    syn = [came if from_client else left for from_client, came, left, flags, _ in seen if flags & SYN]
    return (syn[1] - syn[0]) * 1000


def login_ms(seen):
    """Bursts of data from the server are tokens and, last, the echo."""
    began = next(came for from_client, came, _, flags, _ in seen if from_client and flags & SYN)
    arrivals, from_server = [], False
    for from_client, _, left, _, size in sorted(seen, key=lambda s: s[2]):
        if size == 0:
            continue
        if from_client:
            from_server = False
            continue
        if not from_server:
            arrivals.append(left)
        arrivals[-1] = left
        from_server = True
    return (arrivals[-2] - began) * 1000, len(arrivals) - 1


class Stand:
    def __init__(self, bench, one_way):
        self.bench, self.dir, self.root = bench, bench.dir, bench.dir / 'root'
        self.sallyport = bench.build / 'src' / 'cli' / 'sallyport'
        self.env = dict(bench.env('', f'file2:{self.dir}/serve.rcache'), KRB5CCNAME=f'FILE:{self.dir}/delay-cache')
        self.running = []
        fds = open_tun('client'), open_tun('server')
        self.holder = self.start('unshare', '-n', 'sleep', '600')
        time.sleep(0.3)                                     # until it has its namespace
        self.inside = ['nsenter', '-t', self.holder.pid, '-n']
        for argv in (['ip', 'link', 'set', 'server', 'netns', self.holder.pid],
                     ['ip', 'address', 'add', CLIENT, 'peer', SERVER, 'dev', 'client'], ['ip', 'link', 'set', 'client', 'up'],
                     [*self.inside, 'ip', 'link', 'set', 'lo', 'up'],
                     [*self.inside, 'ip', 'address', 'add', SERVER, 'peer', CLIENT, 'dev', 'server'],
                     [*self.inside, 'ip', 'link', 'set', 'server', 'up']):
            self.call(*argv)
        self.line = Line(*fds, one_way)
        self.line.start()

    def call(self, *argv, stdin=''):
        done = subprocess.run([*self.bench.ahead, *map(str, argv)], input=stdin, env=self.env, capture_output=True, text=True, timeout=60,
                              check=False)
        if done.returncode:
            raise OSError(f'{" ".join(map(str, argv))}: {done.stdout[-400:]}{done.stderr[-400:]}')
        return done.stdout

    def start(self, *argv):
        log = (self.dir / 'delay.log').open('a', encoding='utf-8')
        p = subprocess.Popen([*self.bench.ahead, *map(str, argv)], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.running.append(p)
        return p

    def serve(self):
        at_root = [self.sallyport, '--root', self.root]
        self.call(*at_root, 'init', '--realm', REALM)
        self.call(*at_root, 'account', 'add', USER, '--password-stdin', stdin=PASSWORD + '\n')
        self.call(*at_root, 'service', 'add', SERVICE)
        self.call(*at_root, 'service', 'keytab', SERVICE, '--out', self.dir / 'delay.keytab')
        self.start(*self.inside, self.bench.build / 'src' / 'daemon' / 'sallyportd', '--root', self.root, '--foreground',
                   '--listen', '127.0.0.1:8888', '--listen-kpasswd', '127.0.0.1:8464')
        self.start(*self.inside, *at_root, 'gss', 'serve', '--json', '--keytab', self.dir / 'delay.keytab',
                   '--listen', f'{SERVER}:{PORT}')
        time.sleep(1)

    def login(self, *options):
        self.line.seen.clear()
        told = json.loads(self.call(self.sallyport, 'gss', 'connect', f'{SERVER}:{PORT}', '--service', SERVICE, '--mech', 'iakerb',
                                    '--user', f'{USER}@{REALM}', '--password-stdin', '--json', *options, stdin=PASSWORD + '\n'))
        seen = list(self.line.seen)
        ms, trips = login_ms(seen)
        if trips != told['tokens'] or told['echo'] != 'hello':
            raise OSError(f'{trips} round trips on the line, {told["tokens"]} tokens told')
        time.sleep(0.05)                                    # until the connection's end is off the line
        return {'ms': ms, 'connect_ms': connect_ms(seen), 'round_trips': trips}

    def close(self):
        self.line.over = True                               # before its device goes with the namespace
        self.line.join()
        for p in reversed(self.running):
            p.terminate()
            p.wait(20)


def measure(bench, logins, one_way=0.010):
    stand = Stand(bench, one_way)
    try:
        stand.serve()
        rows = []
        for way, options in (('spake', ()), ('spake, by AS', ('--by-as',))):
            of = [stand.login(*options) for _ in range(logins)]
            ms = [x['ms'] for x in of]
            rows.append({'way': way, 'logins': logins, 'round_trips': max(x['round_trips'] for x in of), 'best_ms': min(ms),
                         'median_ms': statistics.median(ms), 'worst_ms': max(ms),
                         'connect_ms': statistics.median(x['connect_ms'] for x in of)})
        return rows
    finally:
        stand.close()
