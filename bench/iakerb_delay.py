# SPDX-License-Identifier: MIT
"""Logins over a link with a delay: `sallyport gss connect` or a program under libgssapi on one side, `sallyport gss serve` and
the daemon on the other. And, beside the daemon, logins whose two sides are one process under libgssapi, by their CPU time.

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
CLIENT, SERVER, PORT, OLD_PORT, KDC_PORT = '10.77.0.1', '10.77.0.2', 4444, 4445, 8888
REALM, USER, PASSWORD, SERVICE = 'DELAY.TEST', 'alice', 'correct horse battery', 'HTTP/delay.test'
TARGET = SERVICE.replace('/', '@')
STOCK, OURS = "libgssapi's own", 'libgssapi, our plugin'     # STOCK speaks MIT's old dialect
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


def bursts_of(seen):
    """What went one way before an answer, in order: (from the client?, when its last packet came to the line, and left it)."""
    out = []
    for from_client, came, left, flags, size in sorted(seen, key=lambda s: s[2]):
        if size == 0 and not flags & SYN:
            continue
        if out and out[-1][0] == from_client:
            out.pop()
        out.append((from_client, came, left))
    return out


def split_ms(seen):
    """A login, from the client's SYN to the arrival of the acceptor's last token, and where the time went: in the client, in the
    server with its KDC, and on the line, which is the delay and what the line is late. Behind the last token goes the echo."""
    began = next(came for from_client, came, _, flags, _ in seen if from_client and flags & SYN)
    bursts, here, spent = bursts_of(seen)[:-2], began, {True: 0, False: 0}
    line = 0
    for from_client, came, left in bursts:
        spent[from_client] += came - here
        line += left - came
        here = left
    return {'ms': (here - began) * 1000, 'client_ms': spent[True] * 1000, 'server_ms': spent[False] * 1000, 'line_ms': line * 1000,
            'round_trips': len(bursts) // 2 - 1}


class Stand:
    def __init__(self, bench, one_way):
        self.bench, self.dir, self.root = bench, bench.dir, bench.dir / 'root'
        self.sallyport = bench.build / 'src' / 'cli' / 'sallyport'
        self.env = dict(bench.env('', f'file2:{self.dir}/serve.rcache'), KRB5CCNAME=f'FILE:{self.dir}/delay-cache')
        self.env['KRB5_CONFIG'] = str(self.configure('client', ''))
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

    def configure(self, name, kdc):
        path = self.dir / f'krb5-{name}.conf'
        path.write_text(f'[libdefaults]\n default_realm = {REALM}\n rdns = false\n dns_lookup_kdc = false\n'
                        f' dns_canonicalize_hostname = false\n[realms]\n {REALM} = {{\n {kdc}\n }}\n', encoding='ascii')
        return path

    def call(self, *argv, stdin='', timeout=60, **env):
        done = subprocess.run([*self.bench.ahead, *map(str, argv)], input=stdin, env=dict(self.env, **env), capture_output=True, text=True,
                              timeout=timeout, check=False)
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
                   '--listen', f'127.0.0.1:{KDC_PORT}', '--listen-kpasswd', '127.0.0.1:8464')
        for port, options in ((PORT, ()), (OLD_PORT, ('--old-mit',))):
            self.start(*self.inside, *at_root, 'gss', 'serve', '--json', '--keytab', self.dir / 'delay.keytab',
                       '--listen', f'{SERVER}:{port}', *options)
        time.sleep(1)

    def watch(self, argv, **more):
        self.line.seen.clear()
        told = json.loads(self.call(*argv, **more))
        of = split_ms(list(self.line.seen))
        if of['round_trips'] != told['tokens'] or told['echo'] != 'hello':
            raise OSError(f'{of["round_trips"]} round trips on the line, {told["tokens"]} tokens told')
        of['connect_ms'] = connect_ms(self.line.seen)
        time.sleep(0.05)                                    # until the connection's end is off the line
        return of

    def login(self, *options):
        return self.watch([self.sallyport, 'gss', 'connect', f'{SERVER}:{PORT}', '--service', SERVICE, '--mech', 'iakerb',
                           '--user', f'{USER}@{REALM}', '--password-stdin', '--json', *options], stdin=PASSWORD + '\n')

    def library(self, way):
        """Which mechanism libgssapi finds, and how it gets to the KDC."""
        return {'GSS_MECH_CONFIG': str(self.bench.mech_config) if way == OURS else '/nonexistent', 'SALLYPORT_ROOT': str(self.root),
                'KRB5_KTNAME': f'FILE:{self.dir}/delay.keytab'}

    def login_by_library(self, way):
        port = PORT if way == OURS else OLD_PORT
        return self.watch([self.bench.program('bench-iakerb-cold'), 'connect', USER, PASSWORD, TARGET, f'{SERVER}:{port}'],
                          **self.library(way))

    def pairs(self, way, count):
        """Without the line: the acceptor is beside the KDC, which MIT's asks over the network and ours through the courier."""
        env = self.library(way)
        if way == STOCK:
            env['KRB5_CONFIG'] = str(self.configure('acceptor', f'kdc = 127.0.0.1:{KDC_PORT}'))
        return json.loads(self.call(*self.inside, self.bench.program('bench-iakerb-cold'), 'pair', USER, PASSWORD, TARGET, count,
                                    timeout=300, **env))

    def close(self):
        self.line.over = True                               # before its device goes with the namespace
        self.line.join()
        for p in reversed(self.running):
            p.terminate()
            p.wait(20)


def row_of(way, of):
    ms = [x['ms'] for x in of]
    return {'way': way, 'logins': len(of), 'round_trips': max(x['round_trips'] for x in of), 'best_ms': min(ms),
            'median_ms': statistics.median(ms), 'worst_ms': max(ms),
            **{k: statistics.median(x[k] for x in of) for k in ('client_ms', 'server_ms', 'line_ms', 'connect_ms')}}


def measure(bench, logins, one_way=0.010):
    """Rows of logins over the line, all ways in turn, and of pairs beside the KDC."""
    stand = Stand(bench, one_way)
    ways = {'spake': stand.login, 'spake, by AS': lambda: stand.login('--by-as'),
            **{way: lambda way=way: stand.login_by_library(way) for way in (STOCK, OURS)}}
    try:
        stand.serve()
        of = {way: [] for way in ways}
        for _ in range(logins):
            for way, login in ways.items():
                of[way].append(login())
        pairs = [{'way': way, **stand.pairs(way, logins * 5)} for way in (STOCK, OURS)]
        return [row_of(way, v) for way, v in of.items()], pairs
    finally:
        stand.close()
