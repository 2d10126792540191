# SPDX-License-Identifier: MIT
"""The rows of bench/kdc under load: every server, kind of request and window, in alternation; and the goals that are ratios of them."""
import json
import statistics
import sys

from servers import KINDS, TYPED_KINDS

# What the project demands of itself: (number, what, kind, window, server, compared with, at most).
GOALS = [
    ('must', 'AS, a quarter of krb5kdc without tracking', 'as-ts', 16, 'ours-100k', 'mit-min-100k', 0.25),
    ('must', 'TGS, three tenths of krb5kdc without tracking', 'tgs', 16, 'ours-100k', 'mit-min-100k', 0.30),
    ('must', 'AS, an eighth of krb5kdc as shipped', 'as-ts', 16, 'ours-100k', 'mit-shipped-100k', 0.125),
    ('1', 'AS without preauth, times the echo server', 'as-plain', 16, 'ours-100k', 'floor', 2.5),
    ('2', 'AS with timestamp, times the floor', 'as-ts', 16, 'ours-100k', 'floor', 2.5),
    ('2 stretch', 'AS with timestamp, times the floor', 'as-ts', 16, 'ours-100k', 'floor', 1.8),
    ('3', 'TGS, times the floor', 'tgs', 16, 'ours-100k', 'floor', 2.5),
    ('3 stretch', 'TGS, times the floor', 'tgs', 16, 'ours-100k', 'floor', 1.8),
    ('4', 'AS, a record of each over records only counted', 'as-ts', 16, 'ours-100k', 'ours-100k-counted', 1.10),
    ('4', 'TGS, a record of each over records only counted', 'tgs', 16, 'ours-100k', 'ours-100k-counted', 1.10),
    ('4', 'AS, guesses counted over not (last logins are always kept)', 'as-ts', 16, 'ours-100k', 'ours-100k-untracked', 1.10),
    ('5', 'AS, 10 to 100,000 accounts', 'as-ts', 16, 'ours-100k', 'ours-10', 1.15),
    ('5', 'TGS, 10 to 100,000 accounts', 'tgs', 16, 'ours-100k', 'ours-10', 1.15),
    ('5', 'AS, 10 to 1,000,000 accounts', 'as-ts', 16, 'ours-1m', 'ours-10', 1.30),
    ('5', 'TGS, 10 to 1,000,000 accounts', 'tgs', 16, 'ours-1m', 'ours-10', 1.30),
]
LATENCY_GOAL = 1.5      # goal 9, window 1: p50 over the floor's

OURS = ('ours-10', 'ours-100k', 'ours-100k-counted', 'ours-100k-untracked', 'ours-1m', 'ours-100k-t20')
MIT = ('mit-min-10', 'mit-min-100k', 'mit-shipped-10', 'mit-shipped-100k', 'mit-min-100k-t20')
HEIMDAL = ('heimdal-10',)
WINDOWS = (16, 1)


def verdict(number, what, got, at_most, unit=''):
    """got: None when it was not measured."""
    return {'number': number, 'goal': what, 'at_most': at_most, 'got': None if got is None else round(got, 3), 'unit': unit,
            'met': None if got is None else got <= at_most}


def names_of(who):
    out = [f'floor/{k}' for k in KINDS] + [f'floor-{what}/{k}' for what in ('10', '1m', 't20') for k in TYPED_KINDS]
    for wanted, names in (('ours', OURS), ('mit', MIT), ('heimdal', HEIMDAL)):
        out += names if wanted in who else ()
    return out


def kinds_of(server):
    return [k for k in server.kinds if server.etype == 18 or k in TYPED_KINDS]


def measure(stage, server, kind, window, count, round_no):
    count = count if window > 1 else max(20, count // 5)
    row = json.loads(stage.load(server, kind, count, window, max(20, count // 10)))
    row.update(server=server.name, floor=server.floor, kind=kind, round=round_no)
    return row


def run(stage, args):
    """All servers run, one at a time is asked."""
    results = []
    servers = [stage.server(name) for name in names_of(args.servers)]
    for server in servers:
        server.start(stage)
    for round_no in range(args.rounds):
        for window in WINDOWS:
            for kind in KINDS:
                results += [measure(stage, s, kind, window, args.count, round_no) for s in servers if kind in kinds_of(s)]
        print(f'load: round {round_no + 1} of {args.rounds} done', file=sys.stderr)
    for server in servers:
        server.stop()
    return results


# ---- figures ----

def pick(results, server, kind, window, field):
    return {r['round']: r[field] for r in results if (r['server'], r['kind'], r['window']) == (server, kind, window)}


def ratio(results, a, b, kind, window, field='cpu_us'):
    """Median of the ratios within each round; None when one of the two did not run."""
    x, y = pick(results, a, kind, window, field), pick(results, b, kind, window, field)
    both = [x[r] / y[r] for r in x if r in y and y[r]]
    return statistics.median(both) if both else None


def table(results):
    rows = []
    for window in WINDOWS:
        for kind in KINDS:
            for name, floor in dict.fromkeys((r['server'], r['floor']) for r in results):
                fields = {f: pick(results, name, kind, window, f) for f in ('per_second', 'p50_us', 'p99_us', 'cpu_us')}
                if not fields['cpu_us']:
                    continue
                cpu = list(fields['cpu_us'].values())
                rows.append({'window': window, 'kind': kind, 'server': name,
                             **{f: statistics.median(v.values()) for f, v in fields.items()},
                             'cpu_min': min(cpu), 'cpu_max': max(cpu), 'to_floor': ratio(results, name, floor, kind, window)})
    return rows


def goals(results):
    out = [verdict(number, what, ratio(results, a, b, kind, window), most) for number, what, kind, window, a, b, most in GOALS]
    for kind in KINDS:
        out.append(verdict('9', f'{kind}, window 1, p50 over the floor', ratio(results, 'ours-100k', 'floor', kind, 1, 'p50_us'),
                           LATENCY_GOAL))
    return out
