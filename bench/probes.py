# SPDX-License-Identifier: MIT
"""What bench/kdc measures besides load: start-up, memory, TCP, workers, system calls, instructions, string-to-key.

Each probe takes the stage and the arguments, and gives rows for a table and verdicts.
"""
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

from rows import verdict
from servers import Failure, HERE, KINDS, command, family, network_counters

OURS = 'ours-100k'
CONNECTIONS = 64


def beside(args, *names):
    """Ours and those of the peers' servers that are wanted."""
    return [n for n in names if n.partition('-')[0] in args.servers]


class Running:
    """with Running(stage, name) as server: ... it runs, and has answered once."""

    def __init__(self, stage, name, cores=None):
        self.stage, self.server, self.cores = stage, stage.server(name), cores

    def __enter__(self):
        try:
            self.server.start(self.stage, self.cores)
        except Failure:
            self.server.stop()
            raise
        return self.server

    def __exit__(self, *_):
        self.server.stop()


# ---- goal 8: start-up ----

def start_once(stage, server):
    argv = [*server.enter(), stage.program('bench-start'), '--server', f'127.0.0.1:{server.port}', '--core', stage.server_core,
            '--users', server.users, '--', *server.argv]
    done = subprocess.run(['taskset', '-c', stage.client_core, *map(str, argv)], env=server.env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f'{server.name}: start: {done.stderr[-1500:]}')
    return json.loads(done.stdout)['start_ms']


def probe_start(stage, args):
    """In alternation; the clock runs from before fork and exec to the reply, which is then verified."""
    names = beside(args, OURS, 'ours-10', 'mit-min-100k', 'heimdal-100k')
    took = {name: [] for name in names}
    for _ in range(args.starts):
        for name in names:
            took[name].append(start_once(stage, stage.server(name)))
    rows = [{'server': n, 'starts': len(t), 'best_ms': min(t), 'median_ms': statistics.median(t), 'worst_ms': max(t)}
            for n, t in took.items()]
    got = statistics.median(took[OURS]) if OURS in took else None
    return rows, [verdict('8', 'start to first verified reply, 100,000 accounts, median', got, 5, 'ms')]


# ---- goal 8: memory ----

def dirty_kb(pid):
    """Dirty pages of one process: private, and its share of those that several have; private in a table shared by descriptor, which the
    kernel calls private as long as only one process has touched it."""
    total, tables, path = {'Private_Dirty': 0, 'Pss_Dirty': 0}, 0, ''
    for line in pathlib.Path(f'/proc/{pid}/smaps').read_text(encoding='utf-8', errors='replace').splitlines():
        key, _, rest = line.partition(':')
        if key in total:
            total[key] += int(rest.split()[0])
            tables += int(rest.split()[0]) if key == 'Private_Dirty' and path.startswith('/memfd:') else 0
        elif re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
            path = (line.split(maxsplit=5) + [''])[5]
    return total['Private_Dirty'], total['Pss_Dirty'], tables


def memory_of(server, when):
    """dirty_mb counts a page that several processes share once."""
    private, dirty, tables = zip(*(dirty_kb(pid) for pid in family(server.process.pid)))
    return {'server': server.name, 'when': when, 'processes': len(private), 'private_mb': sum(private) / 1024,
            'of_each_mb': ' + '.join(f'{p / 1024:.2f}' for p in private), 'tables_mb': sum(tables) / 1024, 'dirty_mb': sum(dirty) / 1024}


def probe_memory(stage, args):
    rows = []
    third = args.memory_requests // 3
    for name in beside(args, OURS, 'mit-min-100k', 'heimdal-10'):
        with Running(stage, name) as server:
            time.sleep(args.settle_s)
            rows.append(memory_of(server, 'fresh'))
            for kind in KINDS:
                stage.load(server, kind, third - 1, 16, 1)
            time.sleep(args.settle_s)
            rows.append(memory_of(server, f'after {3 * third}'))
    return rows, [verdict('8', f'private dirty memory of keeper and worker, {r["when"]}', r['private_mb'], 4, 'MB')
                  for r in rows if r['server'] == OURS]


# ---- goal 8: TCP ----

ONE_BY_ONE = 'one at a time'
WAYS = ((ONE_BY_ONE, '--tcp', 1), (f'{CONNECTIONS} at once', '--tcp', CONNECTIONS), (f'bursts of {CONNECTIONS}', '--burst', CONNECTIONS))


def ask_by_tcp(stage, server, way, flag, window, count):
    before = network_counters()
    done = stage.ask(server, 'as-ts', count, window, 1, flag)
    after = network_counters()
    try:
        row = json.loads(done.stdout)
    except ValueError:
        raise Failure(f'{server.name} tcp: {done.stderr[-1500:]}') from None
    if row['bad'] or row['odd']:
        raise Failure(f'{server.name} tcp, {way}: wrong replies\n{done.stdout}{done.stderr}')
    return {'way': way, 'server': server.name, **{k: row[k] for k in ('requests', 'per_second', 'p50_us', 'p99_us', 'max_us', 'cpu_us', 'lost')},
            'overflows': after['ListenOverflows'] - before['ListenOverflows'],
            'drops': after['ListenDrops'] - before['ListenDrops']}


def probe_tcp(stage, args):
    """A peer that loses a connection is shown with it; ours may not. One server at a time runs here, so counters are its own.
    Where SYNs are lost a burst takes seconds, so peers get only a few."""
    rows = []
    for name in beside(args, OURS, 'mit-min-100k', 'heimdal-10'):
        with Running(stage, name) as server:
            for way, flag, window in WAYS:
                count = args.tcp_requests if name == OURS or way == ONE_BY_ONE else args.tcp_peers
                if count:
                    rows.append(ask_by_tcp(stage, server, way, flag, window, count))
    ours = [r for r in rows if r['server'] == OURS]
    for row in ours:
        if row['lost']:
            raise Failure(f'{OURS} lost {row["lost"]} of {row["requests"]} connections, {row["way"]}')
    return rows, [verdict('8', f'SYNs lost by a full backlog, {r["way"]}', max(r['overflows'], r['drops']), 0) for r in ours
                  if r['way'] != ONE_BY_ONE]


# ---- several workers ----

def probe_workers(stage, args):
    """1 and 2 workers on the same cores. With only two processors the client takes its share of them."""
    spare = os.cpu_count() > 2
    others = [str(c) for c in range(os.cpu_count()) if str(c) != stage.client_core and str(c) != stage.server_core]
    cores = f'{stage.server_core},{others[0] if spare else stage.client_core}'
    rows = []
    for _ in range(args.rounds):
        for name in ('ours-100k', 'ours-100k-2w'):
            with Running(stage, name, cores) as server:
                for kind in KINDS:
                    row = json.loads(stage.load(server, kind, args.count, 64, max(20, args.count // 10)))
                    rows.append({'kind': kind, 'server': name, **{k: row[k] for k in ('per_second', 'p50_us', 'p99_us', 'cpu_us')}})
    out = []
    for kind in KINDS:
        for name, label in (('ours-100k', '1 worker'), ('ours-100k-2w', '2 workers')):
            of = [r for r in rows if (r['kind'], r['server']) == (kind, name)]
            out.append({'kind': kind, 'workers': label, **{k: statistics.median(r[k] for r in of)
                                                           for k in ('per_second', 'p50_us', 'p99_us', 'cpu_us')}})
    if spare:
        note = f'workers on cores {cores}, client on {stage.client_core}: requests per second show how it scales'
    else:
        note = ('only 2 processors, which client and workers share: requests per second say nothing of how it scales;\n'
                '  CPU per request that does not grow with a second worker says that workers are not in each other\'s way')
    out.append({'note': note})
    return out, []


# ---- goal 6: system calls ----

def count_calls(stage, server, pids, kind, window, count):
    """Calls of these processes (strace -c) for one request, and the most frequent of them."""
    out = stage.dir / 'strace.out'
    argv = ['strace', '-c', '-f', '-U', 'calls,name', '-o', str(out)]
    for pid in pids:
        argv += ['-p', str(pid)]
    tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        attached = 0
        while attached < len(pids):
            line = tracer.stderr.readline()
            if not line:
                raise Failure(f'strace cannot attach to {server.name}')
            attached += 'attached' in line
        stage.load(server, kind, count, window, 1)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)
    calls = {name: int(n) for n, name in re.findall(r'^\s*(\d+)\s+(\w+)\s*$', out.read_text(encoding='ascii'), re.M)}
    total = calls.pop('total', sum(calls.values()))
    asked = count + 1 + (16 if kind == 'tgs' else 0)
    top = sorted(calls.items(), key=lambda x: -x[1])[:5]
    return total / asked, ', '.join(f'{n} {c / asked:.2f}' for n, c in top if c / asked >= 0.01)


def who_answers(server):
    """The processes that answer requests: ours and Heimdal's are children of what was started."""
    pids = family(server.process.pid)
    return pids[1:] if len(pids) > 1 else pids


def probe_calls(stage, args):
    rows = []
    for name in ['floor/as-ts'] + beside(args, OURS, 'mit-min-100k', 'mit-shipped-100k', 'heimdal-10'):
        with Running(stage, name) as server:
            for window in (1, 16):
                for kind in server.kinds:
                    calls, top = count_calls(stage, server, who_answers(server), kind, window, args.traced_requests)
                    rows.append({'window': window, 'kind': kind, 'server': server.name, 'calls': calls, 'most': top})
            others = [p for p in family(server.process.pid) if p not in who_answers(server)]
            if others:
                calls, top = count_calls(stage, server, others, 'as-ts', 16, args.traced_requests)
                rows.append({'window': 16, 'kind': 'as-ts', 'server': f'{server.name}, parent', 'calls': calls, 'most': top})
    rows.sort(key=lambda r: (r['window'], KINDS.index(r['kind'])))
    rows.append({'note': 'strace slows a server down, so that its batches at window 16 are fuller here than at full speed'})
    worst = {w: max((r['calls'] for r in rows if r.get('server') == OURS and r['window'] == w), default=None) for w in (1, 16)}
    return rows, [verdict('6', 'system calls of the worker per request, window 1, the worst kind', worst[1], 4),
                  verdict('6', 'system calls of the worker per request, window 16, the worst kind', worst[16], 2)]


# ---- goal 7: instructions ----

def probe_instructions(stage, args):
    out = stage.dir / 'instructions.json'
    done = subprocess.run([sys.executable, str(HERE / 'instructions'), '--build', str(stage.build), '--requests', args.instructions, '--json', str(out)],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise Failure(done.stderr)
    rows, verdicts = [], []
    for r in json.loads(out.read_text(encoding='ascii')):
        rows.append({k: r[k] for k in ('kind', 'outside', 'total')})
        for what, key, limit in (('outside the crypto library', 'outside', r['limits'][0]), ('in all', 'total', r['limits'][1])):
            if limit:
                verdicts.append(verdict('7', f'{r["kind"]}, instructions {what}', r[key], limit))
    return rows, verdicts


# ---- goal 11: string-to-key ----

def probe_strings(stage, args):
    """libkrb5: the one of this machine, and the one in the peers' root is of the same package."""
    rows = json.loads(command('taskset', '-c', stage.server_core, stage.program('bench-strings'), args.strings))
    limits = {18: 0.95, 20: 9}
    return rows, [verdict('11', f'string-to-key of type {r["etype"]}, median', r['ours_ms'], limits[r['etype']], 'ms') for r in rows]


# name: (what the table is called, the probe, its columns)
PROBES = {
    'start': ('Start-up: exec to first verified reply', probe_start, ('server', 'starts', 'best_ms', 'median_ms', 'worst_ms')),
    'memory': ('Private dirty memory, all processes of a server', probe_memory,
               ('server', 'when', 'processes', 'private_mb', 'of_each_mb', 'tables_mb', 'dirty_mb')),
    'tcp': ('TCP, one connection per request, AS with timestamp', probe_tcp,
            ('way', 'server', 'requests', 'per_second', 'p50_us', 'p99_us', 'max_us', 'cpu_us', 'overflows', 'drops', 'lost')),
    'workers': ('Workers, window 64, 100,000 accounts', probe_workers, ('kind', 'workers', 'per_second', 'p50_us', 'p99_us', 'cpu_us')),
    'calls': ('System calls per request, of the processes that answer', probe_calls, ('window', 'kind', 'server', 'calls', 'most')),
    'instructions': ('Instructions per request of the engine (callgrind)', probe_instructions, ('kind', 'outside', 'total')),
    'strings': ('String-to-key, one call, milliseconds', probe_strings,
                ('etype', 'times', 'ours_ms', 'ours_best_ms', 'libkrb5_ms', 'libkrb5_best_ms')),
}
