# SPDX-License-Identifier: MIT
"""mech_sallyport.so under unmodified programs: whoever speaks GSS-API logs in through the one port that is open.

Clients here know no KDC: the only way to one leads through the service.
"""
import json
import os
import pathlib
import pwd
import select
import shutil
import socket
import statistics
import struct
import subprocess
import time

import pytest

import harness
from harness import BUILD, HOST, PASSWORD, REALM, WRONG_PASSWORD, Server, free_port, need_peer, peer, run

PLUGIN = BUILD / 'src/plugin/mech_sallyport.so'
PROGRAM = BUILD / 'tests/gss_api'
OWN_OID = '1.3.6.1.4.1.32473.88.5'
TARGET = f'HTTP@{HOST}'
POSTGRES = pathlib.Path('/usr/lib/postgresql/15/bin')


class MechRealm(harness.SallyportRealm):
    """Our daemon with its courier's socket; acceptors may take MIT's old dialect."""

    def start(self):
        super().start()
        self.server.stop()
        (self.root / 'etc/sallyport/conf.d/mech.conf').write_text('[iakerb]\nold-mit = accept\n')
        self.server = Server(self.server.argv, self.server.log, self.port)

    def carried(self, client):
        """Records of what came in-band for this client, oldest first; they are written a moment later."""
        for _ in range(50):
            lines = [json.loads(line) for line in self.records().read_text().splitlines()]
            found = [r for r in lines if r.get('transport') == 'in-band' and r.get('client') == f'{client}@{REALM}'
                     and r['event'] != 'context']
            if found:
                return found
            time.sleep(0.1)
        return []


@pytest.fixture(scope='module')
def local(place):
    dir = place / 'mech'
    dir.mkdir()
    dir.chmod(0o755)
    it = MechRealm(dir, generous=True)
    it.service_add(f'HTTP/{HOST}')
    it.http_keytab = dir / 'http.keytab'
    it.keytab(f'HTTP/{HOST}', it.http_keytab)
    it.mech_config = dir / 'mech.conf'
    it.mech_config.write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
    yield it
    it.close()


class User:
    """Somebody whose configuration names no KDC, with a cache of his own."""

    def __init__(self, realm, home):
        self.realm, self.home = realm, home
        self.cache = home / 'cc'
        self.conf = home / 'krb5.conf'
        self.conf.write_text(f'[libdefaults]\n    default_realm = {REALM}\n    dns_lookup_kdc = false\n    rdns = false\n'
                             '    dns_lookup_realm = false\n    dns_canonicalize_hostname = false\n')
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(('KRB5', 'SALLYPORT', 'GSS'))}
        self.env.update(LC_ALL='C', HOME=str(home), KRB5_CONFIG=str(self.conf), KRB5CCNAME=f'FILE:{self.cache}',
                        KRB5RCACHEDIR=str(home), SALLYPORT_ROOT=str(realm.root), GSS_MECH_CONFIG=str(realm.mech_config))
        self.name = realm.user()

    def kinit(self):
        """A TGT, fetched where the KDC could be reached."""
        run(peer('mit', 'kinit', self.name), stdin=PASSWORD + '\n',
            env=dict(self.env, KRB5_CONFIG=str(self.realm.krb5_conf()))).ok()

    def gss(self, *words, **env):
        return run([PROGRAM, *words], env=dict(self.env, **env))

    def pair(self, *words, **env):
        return self.gss('pair', TARGET, f'acceptor={self.realm.http_keytab}', *words, **env)

    def with_password(self, *words, password=PASSWORD, **env):
        return self.pair(f'user={self.name}', f'password={password}', *words, **env)


@pytest.fixture
def user(local, home):
    return User(local, home)


def values(text):
    return dict(line.split('=', 1) for line in text.splitlines() if '=' in line)


# ---- one program, both sides ----

def test_what_programs_find(user):
    assert values(user.gss('mechs').ok()) == {'iakerb': '1', 'not-default': '0'}
    user.env.pop('GSS_MECH_CONFIG')
    assert values(user.gss('mechs').ok()) == {'iakerb': '1', 'not-default': '1'}     # Debian's own


def test_password(user, local):
    got = values(user.with_password('calls=every').ok())
    assert got['peer'] == got['source'] == got['exported'] == f'{user.name}@{REALM}'
    assert got['target'] == f'HTTP/{HOST}@{REALM}'
    assert got['mech'] == 'iakerb' and got['tokens'] == '3+3'                         # decision 23
    assert [r['preauth'] for r in local.carried(user.name)] == ['none', 'spake']


def test_wrong_password(user):
    user.with_password(password=WRONG_PASSWORD).refused('wrong password or key')
    user.with_password().ok()                       # no failure of this kind is remembered


def test_ticket_from_the_cache(user, local):
    user.kinit()
    assert values(user.pair('calls=every').ok())['tokens'] == '2+2'
    assert f'HTTP/{HOST}@{REALM}' in run(peer('mit', 'klist'), env=user.env).ok()
    assert values(user.pair().ok())['tokens'] == '1+1'
    assert [(r['event'], r['code']) for r in local.carried(user.name)] == [('tgs', 0)]


def test_client_keytab(user, local):
    service = f'host/{user.home.name}'.lower() + '.test'
    local.service_add(service)
    local.keytab(service, user.home / 'client.keytab')
    got = values(user.pair(f'client_keytab={user.home}/client.keytab').ok())
    assert got['peer'] == f'{service}@{REALM}'


def test_spnego_and_bindings(user):
    got = values(user.with_password('mech=spnego', 'bindings=one channel').ok())
    assert got['mech'] == 'iakerb' and got['peer'] == f'{user.name}@{REALM}'
    user.with_password('bindings=one channel', 'acceptor_bindings=another').refused('channel')


def test_threads(user):
    text = user.with_password('threads=4', 'rounds=5').ok()
    assert text.count(f'peer={user.name}@{REALM}\n') == 20


def test_nothing_to_offer(user):
    user.pair().refused('No credentials')
    user.pair('mech=spnego').refused('No credentials', 'No Kerberos credentials')


def test_one_replay_cache(user):
    """File2 as MIT has it: the krb5 mechanism refuses what ours has seen, and the other way round."""
    user.kinit()
    user.pair().ok()
    text = user.gss('replay', TARGET, f'acceptor={user.realm.http_keytab}').ok()
    assert text.count('this authenticator was seen before') == 2 and text.count('Request is a replay') == 2


# ---- what is kept between contexts (docs/decisions/0010) ----

SETTLED = 0.1                   # s, after which a change of a file is old enough for what was read to be kept
NOBODY = 65534


class Follower:
    """One process that makes contexts while its files change; what it has read, it has by its second pair."""

    def __init__(self, user, how='follow', ahead=(), **env):
        self.p = subprocess.Popen([*ahead, PROGRAM, how, TARGET, f'acceptor={user.realm.http_keytab}'], env=dict(user.env, **env),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def tell(self, command, answers=1):
        self.p.stdin.write(command + '\n')
        self.p.stdin.flush()
        return [self.p.stdout.readline().rstrip() for _ in range(answers)]

    def peer(self):
        """Who the acceptor sees; None: it came to no context."""
        [line] = self.tell('pair')
        assert line.startswith(('number=', 'refused')), line
        return line.partition('peer=')[2] or None

    def warm(self):
        time.sleep(SETTLED)
        assert self.peer() == self.peer() != None                # noqa: E711

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.stdin.close()
        self.p.wait(20)
        self.p.stdout.close()
        self.p.stderr.close()


def with_ticket(local, home, name='cc'):
    """A user with a TGT and a ticket for the service."""
    it = User(local, home)
    it.cache = home / name
    it.env['KRB5CCNAME'] = f'FILE:{it.cache}'
    it.kinit()
    it.pair().ok()
    return it


def put_in_place(path, data):
    """Other bytes in the same file, of the same size and with the time of before."""
    before = path.stat()
    assert before.st_size == len(data)
    with path.open('r+b') as f:
        f.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize('how', ['follow', 'follow-held'])
def test_cache_replaced(local, home, how):
    first, second = with_ticket(local, home, 'first'), with_ticket(local, home, 'second')
    asked = home / 'asked'
    name = {u: f'{u.name}@{REALM}' for u in (first, second)}
    shutil.copy(first.cache, asked)
    with Follower(first, how, KRB5CCNAME=f'FILE:{asked}') as f:
        for by in (os.rename, shutil.move, shutil.copyfile):                   # a new file, twice; then the same one
            for u in (second, first):
                f.warm()
                shutil.copy(u.cache, home / 'next')
                by(home / 'next', asked)
                assert f.peer() == name[u]
        asked.unlink()
        assert f.peer() is None
        shutil.copy(second.cache, asked)
        assert f.peer() == name[second]


def test_cache_changed_in_place(local, home):
    """Neither size, inode nor time of writing tell: a ticket that became useless."""
    user = with_ticket(local, home)
    good = user.cache.read_bytes()
    with Follower(user) as f:
        f.warm()
        put_in_place(user.cache, good.replace(REALM.encode(), REALM.encode()[::-1]))
        assert f.peer() is None
        put_in_place(user.cache, good)
        assert f.peer() == f'{user.name}@{REALM}'
        for _ in range(20):                                                    # faster than the clock of files
            put_in_place(user.cache, good.replace(REALM.encode(), REALM.encode()[::-1]))
            assert f.peer() is None
            put_in_place(user.cache, good)
            assert f.peer() == f'{user.name}@{REALM}'


def records_of(keytab):
    at = 2
    while at < len(keytab):
        n = int.from_bytes(keytab[at:at + 4], 'big', signed=True)
        yield at + 4, abs(n)
        at += 4 + abs(n)


def test_keytab_rotated(local, home):
    user = with_ticket(local, home)
    keytab = home / 'http.keytab'
    shutil.copy(local.http_keytab, keytab)
    good = keytab.read_bytes()
    other = bytearray(good)
    for at, n in records_of(good):
        other[at + n - 8] ^= 1                                                 # of the key; behind it stands the kvno
    local = type('', (), {'http_keytab': keytab})
    user.realm = local
    with Follower(user) as f:
        for data in (bytes(other), good[:2]):
            f.warm()
            (home / 'next').write_bytes(data)
            os.rename(home / 'next', keytab)
            assert f.peer() is None
            keytab.write_bytes(good)
            assert f.peer() == f'{user.name}@{REALM}'
        f.warm()
        put_in_place(keytab, bytes(other))
        assert f.peer() is None
        put_in_place(keytab, good)
        assert f.peer() == f'{user.name}@{REALM}'


def test_configuration_edited(local, home):
    """[domain_realm] decides which ticket of the cache is meant."""
    user = with_ticket(local, home)
    here = user.conf.read_text()
    elsewhere = here + f'[domain_realm]\n {HOST} = ELSEWHERE.TEST\n'
    (home / 'other.conf').write_text(elsewhere)
    name = f'{user.name}@{REALM}'
    with Follower(user) as f:
        time.sleep(1.1)                                                        # libkrb5 looks once a second
        f.warm()
        user.conf.write_text(elsewhere)
        assert f.peer() is None
        time.sleep(1.1)
        assert f.peer() is None
        user.conf.write_text(here)
        assert f.peer() == name
        time.sleep(1.1)
        f.warm()
        f.tell(f'env KRB5_CONFIG={home}/other.conf')
        assert f.peer() is None and f.peer() is None
        f.tell(f'env KRB5_CONFIG={user.conf}')
        assert f.peer() == name


def test_environment_changes(local, home):
    first, second = with_ticket(local, home, 'first'), with_ticket(local, home, 'second')
    with Follower(first) as f:
        f.warm()
        f.tell(f'env KRB5CCNAME=FILE:{second.cache}')
        assert f.peer() == f'{second.name}@{REALM}'
        f.tell(f'env KRB5CCNAME=FILE:{home}/none')
        assert f.peer() is None
        f.tell(f'env KRB5CCNAME=FILE:{first.cache}')
        assert f.peer() == f'{first.name}@{REALM}'


@pytest.mark.parametrize('how', ['follow', 'follow-held'])
def test_user_changes(local, home, how):
    """Who may not read the cache or the keytab has nothing of what was kept for another user."""
    user = with_ticket(local, home)
    user.realm = type('', (), {'http_keytab': home / 'keytab'})
    shutil.copy(local.http_keytab, home / 'keytab')
    for dir in (home, home.parent):
        dir.chmod(0o755)
    name = f'{user.name}@{REALM}'
    with Follower(user, how, KRB5RCACHENAME='none:') as f:
        for secret in (user.cache, home / 'keytab'):
            user.cache.chmod(0o644)
            (home / 'keytab').chmod(0o644)
            f.warm()
            f.tell(f'user {NOBODY}')
            f.warm()                                                           # nothing else is in his way
            f.tell('user 0')
            secret.chmod(0o600)
            f.warm()
            f.tell(f'user {NOBODY}')
            assert f.peer() is None
            f.tell('user 0')
            assert f.peer() == name


def test_fork(local, home):
    """Parent and child go on with what was kept, and draw different numbers."""
    user = with_ticket(local, home)
    numbers = set()
    with Follower(user) as f:
        f.warm()
        for _ in range(5):
            lines = f.tell('fork', answers=2)
            assert all(line.endswith(f'peer={user.name}@{REALM}') for line in lines)
            numbers.update(line.split()[0] for line in lines)
    assert len(numbers) == 10


def test_threads_with_what_is_kept(local, home):
    user = with_ticket(local, home)
    replaced, other = user.cache.read_bytes(), home / 'next'
    p = subprocess.Popen([PROGRAM, 'pair', TARGET, f'acceptor={local.http_keytab}', 'threads=8', 'rounds=40'], env=user.env,
                         stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        other.write_bytes(replaced)
        os.rename(other, user.cache)
        time.sleep(0.01)
    out = p.communicate(timeout=60)[0]
    assert p.returncode == 0 and out.count(f'peer={user.name}@{REALM}\n') == 320


def test_files_are_read_once(local, home):
    """Two runs of different length open the files that can be kept equally often."""
    user = with_ticket(local, home)
    time.sleep(1.1)

    def opened(pairs):
        trace = home / f'trace-{pairs}'
        script = 'pair\n' * pairs
        run(['strace', '-f', '-e', 'trace=open,openat', '-o', str(trace), str(PROGRAM), 'follow', TARGET,
             f'acceptor={local.http_keytab}'], env=user.env, stdin=script).ok()
        return trace.read_text()

    few, many = opened(5), opened(15)
    assert few.count(str(user.cache)) == many.count(str(user.cache)) > 0
    assert few.count(str(user.conf)) == many.count(str(user.conf)) > 0


def test_more_files_than_are_kept(local, home):
    first, second = with_ticket(local, home, 'first'), with_ticket(local, home, 'second')
    for n in range(40):
        shutil.copy(local.http_keytab, home / f'keytab-{n}')
    for n in range(20):
        shutil.copy((first, second)[n % 2].cache, home / f'cache-{n}')
    time.sleep(SETTLED)
    with Follower(first) as f:
        for n in [*range(40), *range(40)]:
            f.tell(f'env KRB5CCNAME=FILE:{home}/cache-{n % 20}')
            f.tell(f'keytab FILE:{home}/keytab-{n}')
            assert f.peer() == f'{(first, second)[n % 2].name}@{REALM}'


def test_young_files_are_read_again(local, home):
    """Another change within a tick of the kernel's clock would not show."""
    user = with_ticket(local, home)
    trace, good, young = home / 'trace', user.cache.read_bytes(), 0
    with Follower(user, ahead=('strace', '-e', 'trace=openat', '-o', trace)) as f:

        def opened():
            before = trace.read_text().count(str(user.cache))
            assert f.peer() == f'{user.name}@{REALM}'
            return trace.read_text().count(str(user.cache)) - before

        for _ in range(20):
            time.sleep(SETTLED)
            f.warm()
            assert opened() == 0
            changed = time.monotonic()
            put_in_place(user.cache, good)
            assert opened() > 0
            again = opened()
            if time.monotonic() - changed < 0.04:
                young += 1
                assert again > 0
    assert young > 0


def test_timestamp_needs_a_pin(user, local, place):
    """A KDC without SPAKE: nothing to guess on goes through a server unless its host is allowed (decision 24)."""
    plain = harness.SallyportRealm.__new__(harness.SallyportRealm)
    dir = place / 'plain'
    dir.mkdir()
    dir.chmod(0o755)
    plain.__init__(dir)
    try:
        plain.server.stop()
        (plain.root / 'etc/sallyport/conf.d/plain.conf').write_text('[kdc]\nspake = no\n')
        plain.server = Server(plain.server.argv, plain.server.log, plain.port)
        plain.service_add(f'HTTP/{HOST}')
        plain.http_keytab, plain.mech_config = dir / 'http.keytab', local.mech_config
        plain.keytab(f'HTTP/{HOST}', plain.http_keytab)
        other = User(plain, user.home)
        other.with_password().refused('allow-timestamp', 'timestamp')
        with open(plain.root / 'etc/sallyport/sallyport.conf', 'a', encoding='ascii') as f:
            f.write(f'\n[client]\nallow-timestamp = elsewhere.test {HOST}\n')
        assert values(other.with_password().ok())['peer'] == f'{other.name}@{REALM}'
    finally:
        plain.server.stop()


def test_no_daemon(user, home):
    """Tickets that are there are accepted; what has to be carried is refused soon, and next time at once."""
    user.kinit()
    user.pair().ok()
    away = {'SALLYPORT_ROOT': str(home / 'nowhere')}
    assert values(user.pair(**away).ok())['tokens'] == '1+1'
    began = time.monotonic()
    user.with_password(**away).refused('KDC')
    assert time.monotonic() - began < 3
    text = user.gss('twice', TARGET, f'acceptor={user.realm.http_keytab}', f'user={user.name}', f'password={PASSWORD}',
                    **away).ok()
    assert 'KDC' in text


# ---- MIT 1.20.1 on the other end ----

def over_tcp(server_env, client_env, user, *words, serve=()):
    port = free_port()
    server = subprocess.Popen([PROGRAM, 'serve', str(port), f'acceptor={user.realm.http_keytab}', *serve], env=server_env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout.readline() == 'ready\n'
        client = run([PROGRAM, 'connect', str(port), TARGET, *words], env=client_env)
        return client, server.communicate(timeout=20)[0]
    finally:
        server.kill()
        server.wait()


def test_old_mit_initiator(user, local):
    """Debian's own IAKERB, which follows a draft of its own, against ours with old-mit = accept."""
    stock = {k: v for k, v in user.env.items() if k != 'GSS_MECH_CONFIG'}
    client, server = over_tcp(user.env, stock, user, f'user={user.name}', f'password={PASSWORD}')
    assert 'echo=good' in client.ok(), server
    assert f'peer={user.name}@{REALM}' in server
    assert local.carried(user.name)


def test_old_mit_acceptor(user, local):
    """Debian's own as acceptor, which asks its KDC directly; ours as initiator, told so in [client] old-mit."""
    stock = dict(user.env, KRB5_CONFIG=str(local.krb5_conf()))
    stock.pop('GSS_MECH_CONFIG')
    machine = user.home / 'machine'
    (machine / 'etc/sallyport').mkdir(parents=True)
    ours = dict(user.env, SALLYPORT_ROOT=str(machine))
    client, _ = over_tcp(stock, ours, user, f'user={user.name}', f'password={PASSWORD}')
    client.refused('init_sec_context', 'the peer is gone')
    (machine / 'etc/sallyport/sallyport.conf').write_text(f'[client]\nold-mit = {HOST}\n')
    client, server = over_tcp(stock, ours, user, f'user={user.name}', f'password={PASSWORD}')
    assert 'echo=good' in client.ok(), server
    assert f'peer={user.name}@{REALM}' in server


def test_delegated_ticket(user, local):
    """Delegation is MIT's to start: a forwarded ticket needs a KDC of one's own. The acceptor takes it and stores it."""
    stock = dict(user.env, KRB5_CONFIG=str(local.krb5_conf(forwardable='true')))
    stock.pop('GSS_MECH_CONFIG')
    run(peer('mit', 'kinit', '-f', user.name), stdin=PASSWORD + '\n', env=stock).ok()
    client, server = over_tcp(user.env, stock, user, 'flags=0x3f', serve=[f'store=FILE:{user.home}/delegated'])
    assert 'echo=good' in client.ok(), server
    assert f'delegated={user.name}@{REALM}' in server
    text = run(peer('mit', 'klist', '-f', f'FILE:{user.home}/delegated'), env=user.env).ok()
    assert f'krbtgt/{REALM}@{REALM}' in text and 'Flags: Ff' in text


# ---- Apache and curl ----

@pytest.fixture(scope='module')
def apache(local, place):
    dir = place / 'mech-apache'
    dir.mkdir()
    conf = dir / 'no-kdc.conf'          # it knows no KDC: what it carries goes to the daemon
    conf.write_text(f'[libdefaults]\n    default_realm = {REALM}\n    dns_lookup_kdc = false\n    rdns = false\n')
    server = harness.apache(dir, local, several_rounds=True, KRB5_CONFIG=conf, SALLYPORT_ROOT=local.root, GSS_MECH_CONFIG=local.mech_config)
    yield server
    server.stop()


def curl(user, apache, *options):
    return harness.curl(apache, user.env, *options)


def test_curl_and_apache(user, local, apache):
    user.kinit()
    text = curl(user, apache).ok()
    assert '200 OK' in text and 'through the small gate' in text, (apache.dir / 'error.log').read_text()[-2000:]
    assert f'X-User: {user.name}@{REALM}' in text
    records = local.carried(user.name)
    assert [(r['event'], r['code'], r['service']) for r in records] == [('tgs', 0, f'HTTP/{HOST}@{REALM}')]
    assert records[0]['source'] == f'uid {pwd.getpwnam("www-data").pw_uid}'
    assert '200 OK' in curl(user, apache).ok()          # with the ticket that is in the cache now
    assert len(local.carried(user.name)) == 1


def test_curl_without_the_plugin(user, apache):
    user.kinit()
    user.env.pop('GSS_MECH_CONFIG')
    text = curl(user, apache).text
    assert '401 Unauthorized' in text and 'small gate' not in text


def test_mechanism_directory(user, local, apache):
    """The way it is installed: a file in /etc/gss/mech.d, seen by nobody but this test."""
    user.kinit()
    user.env.pop('GSS_MECH_CONFIG')
    shutil.copy(local.mech_config, user.home / '10-sallyport.conf')
    inside = ('mkdir -p /etc/gss/mech.d 2>/dev/null; mount -t tmpfs none /etc/gss/mech.d && '
              f'cp {user.home}/10-sallyport.conf /etc/gss/mech.d/ && exec "$@"')
    text = run(['unshare', '-m', '--propagation', 'private', 'sh', '-c', inside, 'sh', PROGRAM, 'mechs'], env=user.env)
    assert values(text.ok()) == {'iakerb': '1', 'not-default': '0'}


# ---- PostgreSQL ----

@pytest.fixture(scope='module')
def postgres(local, place):
    need_peer('gss')
    if run(peer('gss', 'test', '-x', POSTGRES / 'initdb')).code != 0:
        harness.absent('PostgreSQL 15 is absent')
    dir = place / 'mech-postgres'
    dir.mkdir()
    who = pwd.getpwnam('www-data')      # PostgreSQL refuses to be root, and its own user comes with its installation
    local.service_add(f'postgres/{HOST}')
    local.keytab(f'postgres/{HOST}', dir / 'postgres.keytab')
    conf = dir / 'krb5.conf'
    conf.write_text(f'[libdefaults]\n    default_realm = {REALM}\n    dns_lookup_kdc = false\n    rdns = false\n')
    for file in dir, dir / 'postgres.keytab':
        os.chown(file, who.pw_uid, who.pw_gid)
    as_owner = ['setpriv', f'--reuid={who.pw_uid}', f'--regid={who.pw_gid}', '--clear-groups']
    plain = dict(LC_ALL='C', PATH=os.environ['PATH'], HOME=str(dir))
    run(peer('gss', *as_owner, POSTGRES / 'initdb', '-D', dir / 'data', '-A', 'trust', '-U', 'postgres', '--no-sync'),
        env=plain, cwd=dir).ok()
    (dir / 'data/pg_hba.conf').write_text('local all all trust\nhost all all 127.0.0.1/32 gss include_realm=0\n')
    port = free_port()
    env = dict(plain, KRB5_CONFIG=str(conf), KRB5RCACHEDIR=str(dir), SALLYPORT_ROOT=str(local.root),
               GSS_MECH_CONFIG=str(local.mech_config))
    server = Server(peer('gss', *as_owner, POSTGRES / 'postgres', '-D', dir / 'data', '-p', port, '-k', dir, '-c',
                         f'krb_server_keyfile={dir}/postgres.keytab', '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off'),
                    dir / 'log', port, env, patience=30)
    server.port, server.dir = port, dir
    server.sql = lambda text: run(peer('gss', POSTGRES / 'psql', '-h', dir, '-p', port, '-U', 'postgres', '-Atc', text),
                                  env=plain).ok()
    yield server
    server.stop()


def exactly(sock, n):
    data = b''
    while len(data) < n:
        more = sock.recv(n - len(data))
        assert more, 'the peer is gone'
        data += more
    return data


def framed(sock):
    return exactly(sock, struct.unpack('>I', exactly(sock, 4))[0])


def message(sock):
    """One message of PostgreSQL's protocol: its type and its body."""
    kind, n = struct.unpack('>cI', exactly(sock, 5))
    return kind, exactly(sock, n - 4)


def log_in(user, postgres):
    """PostgreSQL's protocol by hand, tokens from a GSS program: libpq itself asks for krb5 and nothing else."""
    tokens, inherited = socket.socketpair()
    program = subprocess.Popen([PROGRAM, 'initiate', str(inherited.fileno()), f'postgres@{HOST}'], env=user.env,
                               pass_fds=[inherited.fileno()], stdout=subprocess.DEVNULL)
    inherited.close()
    with tokens, program, socket.create_connection(('127.0.0.1', postgres.port)) as server:
        for each in tokens, server:
            each.settimeout(20)
        words = b''.join(w.encode() + b'\0' for w in ('user', user.name, 'database', 'postgres')) + b'\0'
        server.sendall(struct.pack('>II', len(words) + 8, 3 << 16) + words)
        while True:
            kind, body = message(server)
            assert kind == b'R', body
            code = struct.unpack('>I', body[:4])[0]
            if code == 0:
                return server_says(server, b'select current_user\0')
            if code == 8:
                tokens.sendall(struct.pack('>I', len(body) - 4) + body[4:])
                if program.poll() is not None or not wants_more(tokens, program):
                    continue
            token = framed(tokens)
            server.sendall(b'p' + struct.pack('>I', len(token) + 4) + token)


def wants_more(tokens, program):
    """Whether the initiator has another token to send, or is done."""
    while not select.select([tokens], [], [], 0.05)[0]:
        if program.poll() is not None:
            return False
    return tokens.recv(1, socket.MSG_PEEK) != b''


def server_says(server, query):
    server.sendall(b'Q' + struct.pack('>I', len(query) + 4) + query)
    while True:
        kind, body = message(server)
        if kind == b'D':
            return body[6:].decode()
        assert kind in b'SKZTNR', body


def test_postgres_server(user, local, postgres):
    user.kinit()
    postgres.sql(f'create role {user.name} login')
    assert log_in(user, postgres) == user.name, postgres.said()
    assert [(r['event'], r['code'], r['service']) for r in local.carried(user.name)] == \
        [('tgs', 0, f'postgres/{HOST}@{REALM}')]


# ---- what it costs ----

def test_start_up(user, capsys):
    """Programs that make a GSS call pay for one small library; those that ask for mechanisms' attributes, as SPNEGO
    does, for the engine too."""
    def milliseconds(what, env):
        took = []
        for _ in range(200):
            began = time.perf_counter()
            subprocess.run([PROGRAM, what], env=env, stdout=subprocess.DEVNULL, check=True)
            took.append((time.perf_counter() - began) * 1000)
        return statistics.median(took)

    plain = {k: v for k, v in user.env.items() if k != 'GSS_MECH_CONFIG'}
    figures = {what: (milliseconds(what, plain), milliseconds(what, user.env)) for what in ('indicate', 'mechs')}
    with capsys.disabled():
        for what, (without, with_us) in figures.items():
            print(f'\n    gss_api {what}: {without:.2f} ms, with the mechanism {with_us:.2f} ms', end='')
    assert figures['indicate'][1] < figures['indicate'][0] + 5
