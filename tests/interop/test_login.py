# SPDX-License-Identifier: MIT
"""sallyport login and gss: tickets in the user's own cache, read by the stock programs; every way there, every refusal."""
import json
import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

import conftest
import harness
from harness import HOST, MitRealm, PASSWORD, REALM, SALLYPORT, WRONG_PASSWORD, Server, free_port, need_peer, peer, run

HTTP_SERVICE = f'HTTP/{HOST}'
STAND = pathlib.Path(__file__).with_name('negotiate_stand.py')


class User:
    """One user's environment: a home, a cache, and no configuration but the realm's."""

    def __init__(self, realm, home):
        self.realm, self.home, self.cache = realm, home, home / 'cc'
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(('KRB5', 'SALLYPORT'))}
        self.env.update(LC_ALL='C', HOME=str(home), KRB5_CONFIG=str(realm.krb5_conf()), KRB5CCNAME=f'FILE:{self.cache}',
                        KRB5RCACHENAME=f'file2:{home}/rcache')

    def __call__(self, *argv, password=None, root=True, env=None, prefix=()):
        stdin = '' if password is None else password + '\n'
        return run([*prefix, SALLYPORT, *(['--root', self.realm.root] if root else []), *argv], stdin=stdin,
                   env=dict(self.env, **(env or {})))

    def login(self, *argv, password=PASSWORD, **more):
        return self('login', *argv, '--password-stdin', password=password, **more)

    def json(self, *argv, **more):
        return json.loads(self.login(*argv, '--json', **more).ok())

    def stock(self, root, *argv, **env):
        need_peer(root)
        return run(peer(root, *argv), env=dict(self.env, **env))


@pytest.fixture
def user(realm, home):
    return User(realm, home)


@pytest.fixture
def name(realm):
    return realm.user()


def holds(user, service, who, cache=None):
    env = {'KRB5CCNAME': cache} if cache else {}
    text = user.stock('mit', 'klist', **env).ok()
    assert f'Default principal: {who}@{REALM}' in text and f'{service}@{REALM}' in text, text


TGT = f'krbtgt/{REALM}'


# ---- straight to a KDC ----

@pytest.mark.parametrize('way', ['daemon', 'kdc'])
def test_a_ticket_that_stock_programs_use(realm, user, name, way):
    more = {'daemon': {}, 'kdc': dict(root=False)}[way]
    options = {'daemon': [], 'kdc': ['--kdc', f'127.0.0.1:{realm.port}']}[way]
    told = user.json(f'{name}@{REALM}', *options, **more)
    assert told['principal'] == f'{name}@{REALM}' and told['ticket'] == f'{TGT}@{REALM}' and told['proof'] == 'spake'
    assert told['cache'] == f'FILE:{user.cache}' and [s['came'] for s in told['steps']][-1] == 'AS-REP'
    assert user.cache.stat().st_mode & 0o7777 == 0o600
    holds(user, TGT, name)
    assert f'host/{HOST}@{REALM}: kvno = ' in user.stock('mit', 'kvno', f'host/{HOST}').ok()
    assert re.search(f'Principal: {name}@{REALM}', user.stock('heimdal', 'klist').ok())
    assert f'host/{HOST}@{REALM}' in user.stock('heimdal', 'klist').ok()


def test_the_realm_may_be_left_out_where_a_daemon_runs(realm, user, name):
    user.login(name).ok()
    holds(user, TGT, name)
    user.login(name, '--kdc', f'127.0.0.1:{realm.port}', root=False).refused(r'which realm\? Write USER@REALM')


def test_a_service_ticket_from_the_first_exchange(user, name):
    told = user.json(f'{name}@{REALM}', '--service', f'host/{HOST}')
    assert told['ticket'] == f'host/{HOST}@{REALM}'
    holds(user, f'host/{HOST}', name)
    assert TGT not in user.stock('mit', 'klist').ok()


def test_a_service_ticket_comes_to_what_is_there(user, name):
    user.login(f'{name}@{REALM}').ok()
    user.login(f'{name}@{REALM}', '--service', f'host/{HOST}').ok()
    holds(user, TGT, name)
    holds(user, f'host/{HOST}', name)
    user.login(f'{name}@{REALM}').ok()
    assert f'host/{HOST}' not in user.stock('mit', 'klist').ok()


def test_a_shorter_life(user, name):
    told = user.json(f'{name}@{REALM}', '--lifetime', '10m')
    ends = subprocess.run(['date', '-d', told['ends'], '+%s'], capture_output=True, text=True, check=True).stdout
    assert 0 < int(ends) - user.cache.stat().st_mtime <= 600


def test_keys_instead_of_a_password(realm, user, home):
    keytab = home / 'service.keytab'
    realm.keytab(f'host/{HOST}', keytab)
    user('login', f'host/{HOST}', '--keytab', keytab).ok()
    holds(user, TGT, f'host/{HOST}')
    user('login', 'nobody', '--keytab', keytab).refused('the keytab holds no key of this name')


# ---- which cache ----

def test_the_cache_of_krb5_conf(realm, user, name, home):
    conf = home / 'krb5.conf'
    extra = home / 'conf.d'
    extra.mkdir()
    (extra / 'cache.conf').write_text(f'[libdefaults]\n    default_ccache_name = FILE:{home}/cc-%{{uid}}-%{{null}}x\n')
    conf.write_text(f'includedir {extra}\n[libdefaults]\n  default_realm = {REALM}\n  default_ccache_name = FILE:{home}/other\n')
    env = {'KRB5CCNAME': '', 'KRB5_CONFIG': str(conf)}
    told = json.loads(user.login(f'{name}@{REALM}', '--json', env=env).ok())
    assert told['cache'] == f'FILE:{home}/cc-{os.getuid()}-x'
    assert f'Default principal: {name}@{REALM}' in user.stock('mit', 'klist', **{k: v for k, v in env.items() if v}, KRB5CCNAME=told['cache']).ok()
    (extra / 'cache.conf').write_text('[libdefaults]\ndefault_ccache_name = FILE:%{LIBDIR}/x\n')
    user.login(f'{name}@{REALM}', env=env).refused('default_ccache_name in krb5.conf holds %{LIBDIR}, unknown here')


def test_a_collection_of_caches(realm, user, name, home):
    cache = f'DIR:{home}/caches'
    second = realm.user()
    user.login(f'{name}@{REALM}', '--cache', cache).ok()
    user.login(f'{second}@{REALM}', '--cache', cache).ok()
    listed = user.stock('mit', 'klist', '-l', KRB5CCNAME=cache).ok()
    assert f'{name}@{REALM}' in listed and f'{second}@{REALM}' in listed, listed
    holds(user, TGT, second, cache)
    user.login(f'{name}@{REALM}', '--cache', cache).ok()        # its own cache again, not a third one
    holds(user, TGT, name, cache)
    assert len(list((home / 'caches').glob('tkt*'))) == 2
    assert (home / 'caches').stat().st_mode & 0o777 == 0o700
    assert 'kvno = ' in user.stock('mit', 'kvno', f'host/{HOST}', KRB5CCNAME=cache).ok()
    (home / 'caches').chmod(0o777)
    user.login(f'{name}@{REALM}', '--cache', cache).refused('is no directory that only you can write to')


@pytest.mark.parametrize('kind', ['user', 'persistent', 'session'])
def test_keyrings(realm, user, name, kind):
    cache = f'KEYRING:{kind}:' + (str(os.getuid()) if kind == 'persistent' else f'sallyport-test-{name}')
    try:
        user.login(f'{name}@{REALM}', '--cache', cache, '--force').ok()
        holds(user, TGT, name, cache)
        assert 'kvno = ' in user.stock('mit', 'kvno', f'host/{HOST}', KRB5CCNAME=cache).ok()
        user.login(f'{name}@{REALM}', '--cache', cache, '--service', HTTP_SERVICE).refused('KDC does not know this service')
        holds(user, f'host/{HOST}', name, cache)
        user.login(f'{realm.user()}@{REALM}', '--cache', cache).refused(f'holds tickets of {name}@{REALM}; use --force')
    finally:
        user.stock('mit', 'kdestroy', '-c', cache)
    made = run(peer('mit', 'kinit', '-c', cache, f'{name}@{REALM}'), stdin=PASSWORD + '\n', env=user.env)
    try:
        made.ok()
        user.login(f'{name}@{REALM}', '--cache', cache, '--service', f'host/{HOST}').ok()     # what kinit wrote is read
        holds(user, TGT, name, cache)
        holds(user, f'host/{HOST}', name, cache)
    finally:
        user.stock('mit', 'kdestroy', '-c', cache)


@pytest.fixture
def kcm(home):
    """Heimdal's daemon that keeps caches, with a /run of its own; where its socket is."""
    need_peer('kcm')
    place, log = home / 'run', open(home / 'kcm.log', 'wb')
    place.mkdir()
    server = subprocess.Popen(['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /run && exec "$@"', place, *peer('kcm', '/usr/sbin/kcm')],
                              stdout=log, stderr=log, start_new_session=True)
    path = place / '.heim_org.h5l.kcm-socket'
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.1)
    assert path.exists(), (home / 'kcm.log').read_text()
    yield path
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def test_caches_that_a_daemon_keeps(realm, home, name, kcm):
    user = User(realm, home)
    user.env['KRB5_CONFIG'] = str(realm.krb5_conf(kcm_socket=kcm))
    user.env['KRB5CCNAME'] = 'KCM:'
    assert user.json(f'{name}@{REALM}')['cache'] == 'KCM:'
    holds(user, TGT, name)
    assert 'kvno = ' in user.stock('mit', 'kvno', f'host/{HOST}').ok()
    user.login(f'{name}@{REALM}', '--service', HTTP_SERVICE).refused('does not know this service')
    user.login(f'{realm.user()}@{REALM}').refused(f'KCM: holds tickets of {name}@{REALM}; use --force')
    holds(user, f'host/{HOST}', name)
    user.stock('mit', 'kdestroy').ok()
    run(peer('mit', 'kinit', f'{name}@{REALM}'), stdin=PASSWORD + '\n', env=user.env).ok()
    user.login(f'{name}@{REALM}', '--service', f'host/{HOST}').ok()        # what kinit wrote is read
    holds(user, TGT, name)
    holds(user, f'host/{HOST}', name)
    other = f'KCM:{os.getuid()}:other'
    user.login(f'{name}@{REALM}', '--cache', other).ok()
    holds(user, TGT, name, other)
    user.env['KRB5_CONFIG'] = str(realm.krb5_conf(kcm_socket=home / 'nothing'))
    user.login(f'{name}@{REALM}').refused('the daemon that keeps KCM: does not answer: No such file or directory')


@pytest.mark.parametrize('cache,pattern', [
    ('MEMORY:x', 'caches of type MEMORY are not written; name a FILE:, DIR:, KEYRING: or KCM: cache'),
    ('API:x', 'caches of type API are not written'),
    ('KEYRING:thread:x', 'keyrings are persistent:UID, user:NAME and session:NAME'),
    ('FILE:', "the credential cache's name is empty"),
])
def test_types_that_are_refused(user, name, cache, pattern):
    user.login(f'{name}@{REALM}', env={'KRB5CCNAME': cache}).refused(pattern)
    assert not pathlib.Path(f'/tmp/krb5cc_{os.getuid()}').exists() or not user.cache.exists()


# ---- refusals that leave everything as it was ----

def test_another_principals_cache(realm, user, name):
    user.login(f'{name}@{REALM}').ok()
    before, other = user.cache.read_bytes(), realm.user()
    answer = user.login(f'{other}@{REALM}')
    answer.refused(f'FILE:.* holds tickets of {name}@{REALM}; use --force or another --cache')
    assert answer.code == 4 and user.cache.read_bytes() == before
    user.login(other).refused(f'holds tickets of {name}@{REALM}')      # the realm came from the daemon
    assert user.cache.read_bytes() == before
    user.login(f'{other}@{REALM}', '--force').ok()
    holds(user, TGT, other)


def test_a_file_that_is_no_cache(user, name):
    user.cache.write_text('a letter to a friend')
    user.login(f'{name}@{REALM}').refused('holds something else than tickets; use --force')
    assert user.cache.read_text() == 'a letter to a friend'
    user.cache.write_text('')
    user.login(f'{name}@{REALM}').ok()


def test_a_symbolic_link(user, name, home):
    (home / 'target').write_text('')
    user.cache.symlink_to(home / 'target')
    for force in ([], ['--force']):
        user.login(f'{name}@{REALM}', *force).refused('is a symbolic link; nothing was changed')
    assert user.cache.is_symlink() and (home / 'target').read_text() == ''


def test_somebody_elses_file(user, name):
    user.cache.write_text('')
    os.chown(user.cache, 12345, 12345)
    for force in ([], ['--force']):
        user.login(f'{name}@{REALM}', *force).refused('belongs to uid 12345; nothing was changed')
    assert user.cache.stat().st_uid == 12345


def test_a_pipe_and_a_directory(user, name):
    os.mkfifo(user.cache)
    user.login(f'{name}@{REALM}').refused('is no regular file')
    user.cache.unlink()
    user.cache.mkdir()
    user.login(f'{name}@{REALM}').refused('is no regular file')


def test_a_full_disk(user, name, home):
    disk = home / 'disk'
    disk.mkdir()
    script = ('mount -t tmpfs -o size=16k none "$0" || exit 99; echo -n > "$0/cc"; dd if=/dev/zero of="$0/fill" bs=1k 2>/dev/null; '
              '"$@"; code=$?; ls "$0"; exit $code')
    answer = user.login(f'{name}@{REALM}', '--cache', f'FILE:{disk}/cc',
                        prefix=['unshare', '-m', 'sh', '-c', script, disk])
    answer.refused('cannot be (made|written): No space left on device; nothing was changed')
    assert re.search(r'^cc\nfill$', answer.text, re.M) and answer.code == 1, answer.text


def test_wrong_passwords_and_names(realm, user, name):
    for options in ([], ['--kdc', f'127.0.0.1:{realm.port}']):
        user.login(f'{name}@{REALM}', *options, password=WRONG_PASSWORD).refused('^sallyport: wrong password or key')
        user.login(f'nobody-{name}@{REALM}', *options).refused('wrong password')      # looks the same from outside
        user.login(f'{name}@{REALM}', *options, '--service', 'host/nowhere').refused('does not know this service')
    user.login(f'{name}@ELSEWHERE').refused('sallyportd knows no KDC of ELSEWHERE; name a way')
    user.login(f'{name}@{REALM}', password='').refused('the password is empty')
    assert not user.cache.exists()


def test_no_way_to_a_kdc(user, name, home):
    answer = run([SALLYPORT, '--root', home, 'login', f'{name}@{REALM}', '--password-stdin'], stdin=PASSWORD + '\n', env=user.env)
    answer.refused('no sallyportd answers here; start it, or name a way')
    assert answer.code == 6
    user.login(f'{name}@{REALM}', '--kdc', f'127.0.0.1:{free_port()}').refused('cannot be reached: Connection refused')
    user.login(f'{name}@{REALM}', '--kdc', '[::1').refused('names no host and port')
    user.login(f'{name}@{REALM}', '--kdc', 'x', '--via', 'http://x').refused('two ways; name one')


def test_mits_kdc(place, home):
    need_peer('mit')
    dir = place / 'login-mit'
    dir.mkdir()
    dir.chmod(0o755)
    it = MitRealm(dir)
    try:
        name = it.user('+requires_preauth')
        user = User(it, home)
        told = user.json(f'{name}@{REALM}', '--kdc', f'127.0.0.1:{it.port}', root=False)
        assert told['proof'] == 'timestamp'
        holds(user, TGT, name)
    finally:
        it.close()


# ---- the pair, and a login through a service ----

class Pair:
    """gss serve on a realm of ours, and a web server before it."""

    def __init__(self, realm, dir):
        self.realm, self.dir, self.port, self.keytab, self.servers = realm, dir, free_port(), dir / 'http.keytab', []
        realm.keytab(HTTP_SERVICE, self.keytab)
        self.gss = self.start('gss', [SALLYPORT, '--root', realm.root, 'gss', 'serve', '--json', '--keytab', self.keytab,
                                      '--listen', f'127.0.0.1:{self.port}'], self.port)

    def start(self, name, argv, port):
        env = {k: v for k, v in os.environ.items() if not k.startswith(('KRB5', 'SALLYPORT'))}
        env['KRB5RCACHENAME'] = f'file2:{self.dir}/rcache'
        server = Server(argv, self.dir / f'{name}.log', port, env=env)
        self.servers.append(server)
        return server

    def web(self, name='web', *options):
        port = free_port()
        self.start(name, [sys.executable, STAND, port, self.port, *options], port)
        return port

    def close(self):
        for server in self.servers:
            server.stop()


def paired(realm, dir):
    dir.mkdir()
    dir.chmod(0o755)
    realm.service_add(HTTP_SERVICE)
    return Pair(realm, dir)


@pytest.fixture(scope='module')
def pair(place):
    realm = conftest.make_realm(place / 'login-realm')
    it = paired(realm, place / 'login-pair')
    it.url = f'http://127.0.0.1:{it.web()}/'
    yield it
    it.close()
    realm.close()


@pytest.fixture
def guest(pair, home):
    """A user who reaches the service and nothing else."""
    it = User(pair.realm, home)
    it.name = pair.realm.user()
    return it


class TimestampRealm(harness.SallyportRealm):
    """A KDC that has nothing but encrypted timestamps, as most."""

    def start(self):
        snippets = self.dir / 'root/etc/sallyport/conf.d'
        snippets.mkdir(parents=True)
        (snippets / 'zz.conf').write_text('[kdc]\nspake = off\n')
        super().start()


@pytest.fixture(scope='module')
def timestamp_pair(place):
    dir = place / 'login-timestamp'
    dir.mkdir()
    dir.chmod(0o755)
    realm = TimestampRealm(dir)
    it = paired(realm, place / 'login-timestamp-pair')
    it.url = f'http://127.0.0.1:{it.web()}/'
    yield it
    it.close()
    realm.close()


def test_through_a_service(pair, guest):
    told = guest.json(f'{guest.name}@{REALM}', '--via', pair.url, root=False)
    assert told['ticket'] == f'{TGT}@{REALM}' and told['cache'] == f'FILE:{guest.cache}'
    assert [(s['sent'], s['came']) for s in told['steps']] == [
        ('AS-REQ', 'error 91 KDC_ERR_MORE_PREAUTH_DATA_REQUIRED'), ('AS-REQ', 'AS-REP')]
    holds(guest, TGT, guest.name)
    assert 'kvno = ' in guest.stock('mit', 'kvno', HTTP_SERVICE).ok()


def test_through_a_service_without_naming_the_realm(pair, guest):
    told = guest.json(guest.name, '--via', pair.url, root=False)
    assert told['principal'] == f'{guest.name}@{REALM}' and len(told['steps']) == 3
    holds(guest, TGT, guest.name)


def test_through_a_service_a_ticket_for_it(pair, guest):
    told = guest.json(f'{guest.name}@{REALM}', '--via', pair.url, '--service', HTTP_SERVICE, root=False)
    assert told['ticket'] == f'{HTTP_SERVICE}@{REALM}' and len(told['steps']) == 2
    holds(guest, HTTP_SERVICE, guest.name)
    answer = guest('gss', 'connect', f'127.0.0.1:{pair.port}', '--service', HTTP_SERVICE, '--mech', 'krb5', root=False)
    assert 'echo        hello' in answer.ok()


def test_through_a_service_over_tls(pair, guest, home):
    cert = home / 'cert.pem'
    run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj',
         '/CN=stand', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', cert, '-out', home / 'c.pem']).ok()
    cert.write_text(cert.read_text() + (home / 'c.pem').read_text())
    port = pair.web(f'tls-{guest.name}', '--cert', str(cert))
    who = f'{guest.name}@{REALM}'
    guest.login(who, '--via', f'https://127.0.0.1:{port}/', root=False).refused('no TLS with 127.0.0.1: self-signed certificate')
    guest.login(who, '--via', f'https://localhost:{port}/', '--ca', home / 'c.pem', root=False).refused('no TLS with localhost: hostname mismatch')
    guest.login(who, '--via', f'https://127.0.0.1:{port}/', '--ca', home / 'nothing', root=False).refused('holds no certificates')
    guest.login(who, '--via', f'https://127.0.0.1:{port}/', '--ca', home / 'c.pem', root=False).ok()
    holds(guest, TGT, guest.name)


def test_refusals_through_a_service(pair, guest):
    who = f'{guest.name}@{REALM}'
    guest.login(who, '--via', pair.url, root=False, password=WRONG_PASSWORD).refused('wrong password or key')
    guest.login(f'{guest.name}@ELSEWHERE', '--via', pair.url, root=False).refused('the server knows no KDC of this realm')
    guest.login(who, '--via', f'http://127.0.0.1:{pair.web("close-" + guest.name, "--close")}/', root=False).refused(
        'ends the connection between tokens: it needs keep-alive')
    guest.login(who, '--via', f'http://127.0.0.1:{pair.web("plain-" + guest.name, "--plain")}/', root=False).refused(
        'answers 401 and does not ask for Negotiate there')
    guest.login(who, '--via', f'http://127.0.0.1:{free_port()}/', root=False).refused('cannot be reached')
    guest.login(who, '--via', f'http://127.0.0.1:{pair.port}/', root=False).refused('this is no HTTP response', 'ended the connection', 'does not answer')
    for url in ('ftp://x/', 'http://', 'http://a b/', 'http://user@x/', 'http://x:99999/', 'http://[::1/', 'http://x/#y'):
        guest.login(who, '--via', url, root=False).refused("a URL", "the URL's path")
    assert not guest.cache.exists()


def test_timestamps_only_when_allowed(timestamp_pair, home):
    user = User(timestamp_pair.realm, home)
    who = f'{timestamp_pair.realm.user()}@{REALM}'
    user.login(who, '--via', timestamp_pair.url, root=False).refused('only an encrypted timestamp is offered.*sallyport login --allow-timestamp')
    assert not user.cache.exists()
    told = user.json(who, '--via', timestamp_pair.url, '--allow-timestamp', root=False)
    assert told['steps'][-1]['came'] == 'AS-REP'
    assert user.json(who, '--force')['proof'] == 'timestamp'       # straight to the KDC it is no question


def test_a_pin_allows_timestamps(timestamp_pair, home):
    user = User(timestamp_pair.realm, home)
    who = f'{timestamp_pair.realm.user()}@{REALM}'
    file = home / 'etc/sallyport/sallyport.conf'
    file.parent.mkdir(parents=True)
    env = {'SALLYPORT_ROOT': str(home)}
    file.write_text('[client]\nallow-timestamp = elsewhere.test, nas2\n')
    user.login(who, '--via', timestamp_pair.url, root=False, env=env).refused('only an encrypted timestamp is offered')
    file.write_text('[client]\nallow-timestamp = nas2 127.0.0.1\n')
    user.login(who, '--via', timestamp_pair.url, root=False, env=env).ok()
    user('config', 'check', root=False, env=env).ok()


def test_one_that_is_slow_stops_nobody(pair, guest):
    with socket.create_connection(('127.0.0.1', pair.port)), socket.create_connection(('127.0.0.1', pair.port)) as half:
        half.sendall(b'\0\0')
        began = time.monotonic()
        connect(guest, pair, '--user', f'{guest.name}@{REALM}', password=PASSWORD).ok()
        assert time.monotonic() - began < 10


def connect(user, pair, *options, password=None):
    more = ['--password-stdin'] if password else []
    return user('gss', 'connect', f'127.0.0.1:{pair.port}', '--service', HTTP_SERVICE, *options, *more, password=password)


MECHS = ['krb5', 'iakerb', 'spnego']


@pytest.mark.parametrize('mech', MECHS)
def test_the_pair_with_a_password(pair, guest, mech):
    told = json.loads(connect(guest, pair, '--json', '--mech', mech, '--user', f'{guest.name}@{REALM}', password=PASSWORD).ok())
    assert told['client'] == f'{guest.name}@{REALM}' and told['service'] == f'{HTTP_SERVICE}@{REALM}'
    assert told['mech'] == ('iakerb' if mech == 'spnego' else mech) and told['spnego'] == (mech == 'spnego')
    assert told['echo'] == 'hello' and set(told['flags']) == {'mutual', 'replay', 'sequence', 'conf', 'integ'}
    assert len(told['steps']) == 4                                          # decision 23: 4 with SPAKE


@pytest.mark.parametrize('mech', MECHS)
def test_the_pair_with_a_ticket(pair, guest, mech):
    guest.login(f'{guest.name}@{REALM}', '--service', HTTP_SERVICE).ok()
    told = json.loads(connect(guest, pair, '--json', '--mech', mech).ok())
    assert told['mech'] == ('krb5' if mech == 'spnego' else mech) and len(told['steps']) == 1 and told['echo'] == 'hello'


def test_the_pair_with_a_tgt(pair, guest):
    guest.login(f'{guest.name}@{REALM}').ok()
    told = json.loads(connect(guest, pair, '--json', '--mech', 'iakerb').ok())
    assert [s['sent'] for s in told['steps']] == ['TGS-REQ', 'AP-REQ'], told


def test_the_pair_with_everything_selectable(pair, guest):
    who = ['--user', f'{guest.name}@{REALM}']
    for flags in ('mutual,integ', 'mutual,replay,sequence,integ', 'integ', 'mutual,dce,conf,integ'):
        told = json.loads(connect(guest, pair, '--json', '--mech', 'iakerb', '--flags', flags, *who, password=PASSWORD).ok())
        assert set(told['flags']) >= set(flags.split(',')), (flags, told['flags'])
        assert told['echo'] == 'hello'
    told = json.loads(connect(guest, pair, '--json', '--mech', 'iakerb', '--by-as', *who, '--message', 'good day', password=PASSWORD).ok())
    assert told['echo'] == 'good day' and len(told['steps']) == 3
    told = json.loads(connect(guest, pair, '--json', '--mech', 'iakerb', '--user', guest.name, password=PASSWORD).ok())
    assert told['discovered'] and len(told['steps']) == 5
    connect(guest, pair, '--flags', 'mutual,party', *who, password=PASSWORD).refused("unknown flag 'party'")
    connect(guest, pair, '--mech', 'ntlm', *who, password=PASSWORD).refused("unknown mechanism 'ntlm'")
    connect(guest, pair, '--mech', 'iakerb', *who, password=WRONG_PASSWORD).refused('wrong password')
    connect(guest, pair, '--mech', 'iakerb', '--cache', 'FILE:/nonexistent').refused('no credential cache')


def test_the_pair_with_channel_bindings(pair, guest, home):
    port = free_port()
    server = pair.start(f'bound-{guest.name}', [SALLYPORT, '--root', pair.realm.root, 'gss', 'serve', '--json', '--keytab', pair.keytab,
                                                '--bindings', 'the same', '--listen', f'127.0.0.1:{port}'], port)
    who = ['--service', HTTP_SERVICE, '--mech', 'iakerb', '--user', f'{guest.name}@{REALM}', '--password-stdin']
    for words, good in ((['--bindings', 'the same'], True), (['--bindings', 'another'], False), ([], False)):
        answer = guest('gss', 'connect', f'127.0.0.1:{port}', *who, *words, password=PASSWORD)
        assert (answer.code == 0) == good, (words, answer.text)
    assert 'bindings' in server.said()


def test_mits_old_dialect(pair, guest):
    port = free_port()
    pair.start(f'old-{guest.name}', [SALLYPORT, '--root', pair.realm.root, 'gss', 'serve', '--json', '--keytab', pair.keytab,
                                     '--old-mit', '--listen', f'127.0.0.1:{port}'], port)
    who = ['--service', HTTP_SERVICE, '--mech', 'iakerb', '--old-mit', '--user', f'{guest.name}@{REALM}', '--password-stdin']
    assert json.loads(guest('gss', 'connect', f'127.0.0.1:{port}', *who, '--json', password=PASSWORD).ok())['old_mit']
    guest('gss', 'connect', f'127.0.0.1:{pair.port}', *who, password=PASSWORD).refused('.')


def outline(text):
    """What a trace says, without what differs from one exchange to the next."""
    keep = re.compile(r'^(to|from) the |^\s*(token|NegTokenInit|NegTokenResp|mechType|negState|supportedMech)\b|'
                      r'^(AS-REQ|AS-REP|TGS-REQ|TGS-REP|AP-REQ|AP-REP|KRB-ERROR)$|^\s*error-code\b')
    return [re.sub(r', \d+ bytes', '', line).strip() for line in text.splitlines() if keep.match(line)]


def test_every_token_decoded(pair, guest):
    text = connect(guest, pair, '--trace', '--user', f'{guest.name}@{REALM}', password=PASSWORD).ok()
    proxied, iakerb = 'token: iakerb 05 01', 'supportedMech: iakerb 2b0601050205'
    go_on = ['NegTokenResp', 'negState: accept-incomplete']
    assert outline(text) == [
        'to the peer', 'token: spnego', 'NegTokenInit', 'mechType: iakerb 2b0601050205', proxied, 'AS-REQ',
        'from the peer', *go_on, iakerb, proxied, 'KRB-ERROR', 'error-code: 91',
        'to the peer', *go_on, proxied, 'AS-REQ',
        'from the peer', *go_on, proxied, 'AS-REP',
        'to the peer', *go_on, proxied, 'TGS-REQ',
        'from the peer', *go_on, proxied, 'TGS-REP',
        'to the peer', *go_on, 'token: iakerb 01 00', 'AP-REQ',
        'from the peer', *go_on, 'token: iakerb 02 00', 'AP-REP',
        'to the peer', 'NegTokenResp', 'negState: accept-completed'], '\n'.join(outline(text))
    assert PASSWORD not in text


# ---- a stock web server with our mechanism in it ----

PLUGIN = harness.BUILD / 'src/plugin/mech_sallyport.so'
MODULES = '/usr/lib/apache2/modules'
OWN_OID = '1.3.6.1.4.1.32473.88.5'      # an interposer needs one of its own


@pytest.fixture(scope='module')
def apache(pair, place):
    """Stock Apache with mod_auth_gssapi; the interposer is all that is ours in it."""
    need_peer('mit')
    assert PLUGIN.exists(), f'{PLUGIN} is not built'
    dir, port = place / 'login-apache', free_port()
    (dir / 'htdocs').mkdir(parents=True)
    (dir / 'htdocs/index.html').write_text('through the small gate\n')
    (dir / 'mech').write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
    (dir / 'http.keytab').write_bytes(pair.keytab.read_bytes())
    server_user = pwd.getpwnam('www-data')
    os.chown(dir / 'http.keytab', server_user.pw_uid, server_user.pw_gid)
    modules = 'mpm_prefork authn_core authz_core authz_user auth_gssapi dir headers'.split()
    (dir / 'httpd.conf').write_text(''.join(f'LoadModule {m}_module {MODULES}/mod_{m}.so\n' for m in modules) + f'''
ServerRoot {dir}
ServerName {HOST}
Listen 127.0.0.1:{port}
PidFile {dir}/pid
ErrorLog {dir}/error.log
User www-data
Group www-data
DocumentRoot {dir}/htdocs
DirectoryIndex index.html
StartServers 2
<Directory {dir}/htdocs>
    AuthType GSSAPI
    AuthName sallyport
    GssapiCredStore keytab:{dir}/http.keytab
    GssapiConnectionBound On
    Require valid-user
    Header set X-User "expr=%{{REMOTE_USER}}"
</Directory>
''')
    env = {k: v for k, v in os.environ.items() if not k.startswith(('KRB5', 'SALLYPORT'))}
    env.update(GSS_MECH_CONFIG=str(dir / 'mech'), SALLYPORT_ROOT=str(pair.realm.root), KRB5_CONFIG=str(pair.realm.krb5_conf()),
               KRB5RCACHENAME='none:')
    server = Server(peer('mit', 'apache2', '-f', dir / 'httpd.conf', '-DFOREGROUND'), dir / 'stderr.log', port, env)
    server.url, server.port, server.errors = f'http://{HOST}:{port}/', port, dir / 'error.log'
    server.mech = dir / 'mech'
    yield server
    server.stop()


def user_of(guest, apache):
    """Who stock curl is there: its configuration names no KDC, so all it has is the way through the server."""
    conf = guest.home / 'no-kdc.conf'
    conf.write_text(f'[libdefaults]\n  default_realm = {REALM}\n  dns_lookup_kdc = false\n  rdns = false\n  dns_canonicalize_hostname = false\n')
    text = guest.stock('mit', 'curl', '-sS', '-i', '--noproxy', '*', '--resolve', f'{HOST}:{apache.port}:127.0.0.1', '--negotiate', '-u', ':',
                       apache.url, KRB5_CONFIG=str(conf), GSS_MECH_CONFIG=str(apache.mech)).ok()
    assert '200 OK' in text and 'through the small gate' in text, text
    return re.search(r'X-User: (.*?)\r?$', text, re.M)[1]


def test_through_apache(pair, guest, apache):
    local = f'http://127.0.0.1:{apache.port}/'
    for who, steps in ((f'{guest.name}@{REALM}', 2), (guest.name, 3)):
        answer = guest.login(who, '--via', local, '--json', root=False)
        assert answer.code == 0, answer.text + apache.errors.read_text()[-2000:]
        told = json.loads(answer.text)
        assert told['ticket'] == f'{TGT}@{REALM}' and len(told['steps']) == steps, told
    holds(guest, TGT, guest.name)
    guest.login(f'{guest.name}@{REALM}', '--via', local, root=False, password=WRONG_PASSWORD).refused('wrong password or key')
    assert user_of(guest, apache) == f'{guest.name}@{REALM}'
    guest.login(f'{guest.name}@ELSEWHERE', '--via', local, '--force', root=False).refused('the server knows no KDC of this realm')


# ---- doctor ----

def doctor(user, *options, **more):
    return json.loads(user('doctor', '--json', *options, **more).ok())


def told(report):
    return '\n'.join(f['what'] + ' -> ' + f['do'] for f in report['findings'])


def test_doctor_with_everything_in_place(user, home):
    (home / 'mech').write_text(f'# ours\nsallyport {OWN_OID} {PLUGIN} <interposer>\n')
    report = doctor(user, env={'GSS_MECH_CONFIG': str(home / 'mech')})
    assert report['iakerb'] == str(PLUGIN) and report['courier'] == {'answers': True, 'realm': REALM, 'old_mit': False}
    assert [(m['name'], m['loads'], m['iakerb'], m['line']) for m in report['mechanisms']] == [('sallyport', True, True, 2)]
    assert [f for f in report['findings'] if 'GSS_MECH_CONFIG' not in f['what']] == []
    assert {'Apache with mod_auth_gssapi', 'OpenSSH server', 'Java'} <= {p['program'] for p in report['programs']}


@pytest.mark.parametrize('lines, pattern', [
    ('', 'no line names mech_sallyport.so: programs keep MIT'),
    ('x 1.2.3.4 /nonexistent/x.so', r'mech:1: /nonexistent/x.so is skipped without a word'),
    ('x 1.3.6.1.5.2.5 /nonexistent/x.so', 'mech:1 is ignored by libgssapi: the mechanism is a built-in one'),
    ('sallyport {own} {plugin}', 'line of mech_sallyport.so does not end in <interposer>'),
    ('sallyport 1.3.6.1.5.2.5 {plugin} <interposer>', 'line of mech_sallyport.so names a built-in mechanism'),
    ('sallyport {own} /nonexistent/mech_sallyport.so <interposer>', 'mech_sallyport.so does not load'),
    ('other 1.2.3.4 {other} <interposer>\nsallyport {own} {plugin} <interposer>', 'has IAKERB before ours does -> let our file sort first'),
])
def test_doctor_finds(user, home, lines, pattern):
    other = home / 'other.so'
    source = home / 'other.c'
    source.write_text('''#include <stddef.h>
struct oid { unsigned length; const void *elements; };
struct set { size_t count; const struct oid *elements; };
static const struct oid one = {6, "\\x2b\\x06\\x01\\x05\\x02\\x05"};
static const struct set all = {1, &one};
const struct set *gss_mech_interposer(const struct oid *o) { (void)o; return &all; }
''')
    run(['gcc', '-shared', '-fPIC', '-o', other, source]).ok()
    (home / 'mech').write_text(lines.format(plugin=PLUGIN, other=other, own=OWN_OID) + '\n')
    report = doctor(user, env={'GSS_MECH_CONFIG': str(home / 'mech')})
    assert re.search(pattern, told(report)) and not report['good'], told(report)


def test_doctor_in_mech_d_and_programs(user, home):
    etc = home / 'etc'
    for name, text in {'gss/mech.d/50-b.conf': f'sallyport {OWN_OID} {PLUGIN} <interposer>\n', 'gss/mech.d/10-a.conf': 'a 1.2.3 /nonexistent/a.so\n',
                       'gss/mech.d/20-c.txt': 'never 1.2.3 /nonexistent/never.so\n',
                       'apache2/sites-enabled/x.conf': '<Location />\n  AuthType  gssapi\n</Location>\n',
                       'ssh/sshd_config': 'GSSAPIAuthentication yes\nGSSAPIStrictAcceptorCheck no\n'}.items():
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).write_text(text)
    layers = 'for d in gss apache2 ssh; do mkdir -p /etc/$d; mount --bind "$0/$d" /etc/$d || exit 99; done; "$@"'
    over = ('mkdir -p "$0/up" "$0/work"; mount -t tmpfs none "$0/up" && mkdir "$0/up/u" "$0/up/w" && '
            'mount -t overlay -o lowerdir=/etc,upperdir="$0/up/u",workdir="$0/up/w" overlay /etc || exit 99; ' + layers)
    report = doctor(user, prefix=['unshare', '-m', 'sh', '-c', over, etc])
    assert [m['name'] for m in report['mechanisms']] == ['a', 'sallyport'] and report['iakerb'] == str(PLUGIN)
    here = {p['program']: p['here'] for p in report['programs']}
    assert here['Apache with mod_auth_gssapi'] == 'lacking' and here['OpenSSH server'] == 'set'
    assert 'Apache with mod_auth_gssapi is set up here without it' in told(report)


def test_doctor_without_a_daemon(home, user):
    report = json.loads(run([SALLYPORT, '--root', home, 'doctor', '--json'], env=user.env).ok())
    assert not report['courier']['answers'] and 'courier.sock does not answer' in told(report)
    assert 'GSS_USE_PROXY is set' in told(doctor(user, env={'GSS_USE_PROXY': '1'}))
    assert 'courier.sock answers: yes' in user('doctor').ok()
