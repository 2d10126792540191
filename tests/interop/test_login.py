# SPDX-License-Identifier: MIT
"""sallyport login and gss: tickets in the user's own cache, read by the stock programs; every way there, every refusal."""
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import conftest
import harness
from harness import HOST, MitRealm, PASSWORD, REALM, SALLYPORT, WRONG_PASSWORD, Server, curl, free_port, need_peer, peer, run

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
    told = json.loads(user('login', f'host/{HOST}', '--keytab', keytab, '--json').ok())
    assert told['secret'] == 'keytab' and 'via' not in told and 'mutual' not in told
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


KEEPERS = {
    'kcm': 'exec /usr/sbin/kcm',                                        # Heimdal's
    'sssd': 'mkdir -p /var/lib/sss/db /var/lib/sss/secrets && sssd --genconf-section=kcm && '
            'exec /usr/libexec/sssd/sssd_kcm --uid 0 --gid 0 --logger=stderr',
}


@pytest.fixture(params=KEEPERS)
def kcm(request, home):
    """A daemon that keeps caches, with a /run and a /var/lib of its own; where its socket is."""
    need_peer(request.param)
    place, state, log = home.parent / f'kcm-{request.param}', home / 'lib', open(home / 'kcm.log', 'wb')    # a socket's path is short
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    state.mkdir()
    server = subprocess.Popen(['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /run && mount --bind "$1" /var/lib && shift && exec "$@"', place,
                               state, *peer(request.param, 'sh', '-c', KEEPERS[request.param])],
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
    user.env['KRB5_CONFIG'] = str(realm.krb5_conf(kcm_socket='/nothing'))
    user.login(f'{name}@{REALM}').refused('the daemon that keeps KCM: does not answer: No such file or directory')
    user.env['KRB5_CONFIG'] = str(realm.krb5_conf(kcm_socket='/' + 107 * 'x'))
    user.login(f'{name}@{REALM}').refused('kcm_socket in krb5.conf is longer than 107 bytes; name another --cache')


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
    assert {key: told[key] for key in ('proof', 'secret', 'via', 'finished', 'mutual')} == {
        'proof': 'spake', 'secret': 'password', 'via': pair.url, 'finished': 'none', 'mutual': False}
    for key in 'bytes', 'came_bytes', 'us':
        assert told[key] == sum(s[key] for s in told['steps']) and all(s[key] > 0 for s in told['steps'])
    holds(guest, TGT, guest.name)
    assert 'kvno = ' in guest.stock('mit', 'kvno', HTTP_SERVICE).ok()


def test_a_transcript_for_people(pair, guest):
    who = f'{guest.name}@{REALM}'
    lines = guest.login(who, '--via', pair.url, root=False).ok().splitlines()
    step = r' +%d  AS-REQ +\d+ bytes  ->  %s +\d+ bytes +\d+\.\d ms'
    assert re.fullmatch(step % (1, 'error 91 KDC_ERR_MORE_PREAUTH_DATA_REQUIRED'), lines[0]), lines
    assert re.fullmatch(step % (2, 'AS-REP'), lines[1]), lines
    sent, came = (sum(int(re.findall(r'(\d+) bytes', line)[i]) for line in lines[:2]) for i in (0, 1))
    assert re.fullmatch(rf' +in all +{sent} bytes +{came} bytes +\d+\.\d ms', lines[2]), lines
    assert len({line.rindex('.') for line in lines[:3]}) == 1                  # one column
    assert re.fullmatch(rf'{who} is logged in until 20\S+Z', lines[3])
    assert lines[4:] == [f'{TGT}@{REALM} in FILE:{guest.cache}', "proof: spake; the KDC's reply opened with the password's key",
                         f'{pair.url} carried it and proved nothing itself (no FINISHED, no mutual authentication)']
    assert 'proved nothing' not in guest.login(who).ok()


def test_what_both_ends_tell_of_the_proof(pair, guest):
    who = ['--user', f'{guest.name}@{REALM}']
    ends = lambda told: (told.get('proof'), told['finished'], told['mutual'])
    for words, tells, accepts in ((['iakerb', *who], ('spake', 'sent', True), 'checked'),
                                  (['krb5', *who], ('spake', 'none', True), 'none'),
                                  (['iakerb', '--flags', 'integ', *who], ('spake', 'sent', False), 'checked')):
        told = json.loads(connect(guest, pair, '--json', '--mech', *words, password=PASSWORD).ok())
        assert ends(told) == tells, told
        time.sleep(0.1)
        accepted = [json.loads(line) for line in pair.gss.said().splitlines() if line.startswith('{')][-1]
        assert ends(accepted) == (None, accepts, tells[2]), accepted


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
    assert told['steps'][-1]['came'] == 'AS-REP' and told['proof'] == 'timestamp'
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
    (file.parent / 'conf.d').mkdir()
    (file.parent / 'conf.d/none.conf').write_text('[client]\nallow-timestamp = nas2\n')
    user.login(who, '--via', timestamp_pair.url, root=False, env=env).refused('only an encrypted timestamp is offered')


def test_the_line_that_a_refusal_names(timestamp_pair, home):
    user = User(timestamp_pair.realm, home)
    who, pins = f'{timestamp_pair.realm.user()}@{REALM}', home / '.config/sallyport/pins'
    login = lambda: user.login(who, '--via', timestamp_pair.url, root=False)
    connect_it = lambda: connect(user, timestamp_pair, '--mech', 'iakerb', '--user', who, password=PASSWORD)
    said = login().refused("the line 'HOST allow-timestamp' in ~/.config/sallyport/pins$")
    pins.parent.mkdir(parents=True)
    pins.write_text(re.search("the line '(.*)' in", said)[1].replace('HOST', '127.0.0.1') + '\n')
    login().ok()
    connect_it().refused('only an encrypted timestamp is offered')         # there the service's name says which host is meant
    pins.write_text(pins.read_text() + f'{HOST} allow-timestamp\n')
    connect_it().ok()
    pins.write_text('127.0.0.1 allow-timestamp please\n')
    answer = login()
    answer.refused(r'sallyport/pins:1: please is unknown; a line is HOST \[allow-timestamp\] \[old-mit\]$')
    assert answer.code == 2
    pins.write_text('127.0.0.1 allow-timestamp\n')
    pins.chmod(0o664)
    login().refused("others can write to .*/pins, so its pins are not believed; run 'chmod go-w' on it$")
    assert 'others can write to' in told(doctor(user)) and 'every login through a service is refused' in told(doctor(user))
    pins.chmod(0o600)
    os.chown(pins, 12345, 0)
    login().refused('pins belongs to uid 12345, so its pins are not believed')


def test_programs_believe_the_same_lines(timestamp_pair, home):
    user = User(timestamp_pair.realm, home)
    name, pins = timestamp_pair.realm.user(), home / '.config/sallyport/pins'
    (home / 'mech').write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
    env = dict(user.env, GSS_MECH_CONFIG=str(home / 'mech'), SALLYPORT_ROOT=str(timestamp_pair.realm.root))
    program = lambda: run([harness.BUILD / 'tests/gss_api', 'pair', f'HTTP@{HOST}', f'acceptor={timestamp_pair.keytab}', f'user={name}',
                           f'password={PASSWORD}'], env=env)
    program().refused("only an encrypted timestamp is offered.*the line 'HOST allow-timestamp' in ~/.config/sallyport/pins")
    pins.parent.mkdir(parents=True)
    pins.write_text(f'{HOST} allow-timestamp\n')
    assert f'peer={name}@{REALM}' in program().ok()
    pins.write_text(f'{HOST} allow-timestamp\n{HOST}\n')
    program().refused('sallyport/pins:2: nas1.test is pinned to nothing')
    pins.write_text(f'{HOST} allow-timestamp\n')
    pins.chmod(0o666)
    program().refused('others can write to .*pins, so its pins are not believed')


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


# ---- what a person does wrong: one sentence, the right exit status, and nothing left behind ----

def wrong(user, argv, code, pattern, **more):
    """One line that ends with what to do; the same in JSON."""
    before = sorted(p.name for p in user.home.iterdir())
    answer = user(*argv, **more)
    lines = answer.text.splitlines()
    assert answer.code == code and len(lines) == 1 and re.fullmatch('sallyport: ' + pattern, lines[0]), answer.text
    told = json.loads(user(*argv, '--json', **more).text)['error']
    assert told['status'] == code and lines[0] == 'sallyport: ' + '; '.join(filter(None, [told['text'], told.get('advice')])), told
    assert sorted(p.name for p in user.home.iterdir()) == before


class Answering:
    """A server that gives everybody these bytes and hangs up."""

    def __init__(self, data):
        self.data, self.listener = data, socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                with self.listener.accept()[0] as sock:
                    sock.recv(65536)
                    sock.sendall(self.data)
        except OSError:
            pass

    def __enter__(self):
        return self.port

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def response(status, *headers):
    return '\r\n'.join([f'HTTP/1.1 {status} x', 'Content-Length: 0', *headers, '', '']).encode()


@pytest.mark.parametrize('argv, code, pattern', [
    (['login'], 2, r"'login' needs USER\[@REALM\]; see 'sallyport login --help'"),
    (['login', 'alice', 'secret'], 2, "'login' takes one USER.*; a password is never an argument, it is asked for or piped in"),
    (['login', '@TEST'], 2, 'a name with an empty component; see --help'),
    (['login', 'alice', '--via', 'nas1'], 2, 'a URL begins with http:// or https://; see --help'),
    (['login', 'alice', '--service', 'nas1'], 2, "'nas1' names no service; write TYPE/HOST, such as HTTP/nas1.example.org"),
    (['login', 'alice', '--lifetime', '0s'], 2, 'a ticket without a lifetime is of no use; leave out --lifetime, or say 10h'),
    (['login', 'alice', '--kcd', 'x'], 2, r'unknown option --kcd; did you mean --kdc\?'),
    (['login', 'alice@TEST', '--kdc', '127.0.0.1:99999'], 2, r"'127.0.0.1:99999' names no host and port; write HOST:PORT or \[ADDRESS\]:PORT"),
    (['login', 'alice@TEST', '--kdc', '127.0.0.1:1'], 1, '127.0.0.1 port 1 cannot be reached: Connection refused; look at host and port'),
    (['login', 'alice', '--keytab', __file__], 2, r'/\S+ is no keytab \(.*\); name another with --keytab'),
    (['login', 'alice', '--keytab', '/nonexistent'], 3, 'there is no file /nonexistent; look where it went'),
    (['gss', 'connect', '127.0.0.1'], 2, r"'127.0.0.1' names no host and port; write HOST:PORT or \[ADDRESS\]:PORT"),
    (['gss', 'connect', '127.0.0.1:1'], 2, r'which service\? Name it with --service TYPE/HOST; see --help'),
    (['gss', 'connect', '127.0.0.1:1', '--service', 'HTTP/x'], 3, "there is no credential cache .*; run 'sallyport login'"),
    (['gss', 'connect', '127.0.0.1:1', '--service', 'HTTP/x', '--user', 'alice@TEST', '--password-stdin'], 1,
     '127.0.0.1 port 1 cannot be reached: Connection refused; look at host and port'),
    (['gss', 'serve'], 2, 'a service needs its keys; name them with --keytab FILE'),
    (['gss', 'serve', '--keytab', __file__], 2, r'/\S+ is no keytab \(.*\); name another with --keytab'),
], ids=lambda v: ' '.join(w for w in v if not w.startswith('/'))[:50] if isinstance(v, list) else '')
def test_a_slip(user, argv, code, pattern):
    more = ['--password-stdin'] if argv[0] == 'login' and '--keytab' not in argv else []
    wrong(user, [*argv, *more], code, pattern, password=PASSWORD)


@pytest.mark.parametrize('way', [['--kdc', 'no-such-host.invalid'], ['--via', 'http://no-such-host.invalid/']], ids=['kdc', 'via'])
def test_a_host_that_nobody_knows(user, way):
    with pytest.raises(socket.gaierror) as says:        # without a name server it is not known whether there is one
        socket.getaddrinfo('no-such-host.invalid', 88)
    wrong(user, ['login', 'alice@TEST', *way, '--password-stdin'], 3 if says.value.errno == socket.EAI_NONAME else 1,
          "there is no way to no-such-host.invalid: .*; look at the host's name", password=PASSWORD)


def test_a_cache_where_none_can_be(user, name):
    wrong(user, ['login', name, '--cache', 'FILE:/nonexistent/cc', '--password-stdin'], 1,
          '/nonexistent/cc cannot be made: No such file or directory; nothing was changed', password=PASSWORD)


HTTP, HTTPS = 'http://127.0.0.1:{}/', 'https://127.0.0.1:{}/'


@pytest.mark.parametrize('url, data, pattern', [
    (HTTP, response(200), '127.0.0.1 answers 200 and does not ask for Negotiate there; try another path'),
    (HTTP, response(302, 'Location: /login'), '127.0.0.1 answers 302 and does not ask for Negotiate there; try another path'),
    (HTTP, response(401, 'WWW-Authenticate: Basic realm="x"'), '127.0.0.1 answers 401 and does not ask for Negotiate there; try another path'),
    (HTTP, response(401, 'WWW-Authenticate: Negotiate'), r"127.0.0.1 does not take IAKERB \(status 401\); see 'sallyport doctor' on it"),
    (HTTP, response(401, 'WWW-Authenticate: Negotiate oQcwBaADCgEC'), 'the server rejects the negotiation; nothing was changed'),
    (HTTP, response(401, 'WWW-Authenticate: Negotiate oYH='), '127.0.0.1 sends a Negotiate token that is no base64; nothing was changed'),
    (HTTP, response(401, 'WWW-Authenticate: Negotiate YWJj'), '.*; nothing was changed'),
    (HTTP, b'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n', '127.0.0.1: this is no HTTP response to trust: .*; nothing was changed'),
    (HTTP, b'SSH-2.0-OpenSSH_9.2\r\n', r'what answers at 127.0.0.1 port \d+ is no web server; look at the URL'),
    (HTTP, b'\x15\x03\x03\0\x02\x02\x28', r'127.0.0.1 port \d+ speaks TLS; write https://'),
    (HTTP, b'', '127.0.0.1 ended the connection; nothing was changed'),
    (HTTPS, response(400), r'127.0.0.1 port \d+ does not speak TLS; nothing was sent \(try http://\)'),
    (HTTPS, b'', r'no TLS with 127.0.0.1: .*; nothing was sent \(see --ca\)'),
    (None, response(400), r'what answers at 127.0.0.1:\d+ is no KDC; look at host and port'),
    (None, b'\0\0\0\x03abc', 'this is no answer of a KDC to such a request; nothing was changed'),
    (None, b'', r'the KDC at 127.0.0.1:\d+ does not answer: .*; look at host and port'),
])
def test_something_else_answers(user, name, url, data, pattern):
    with Answering(data) as port:
        way = ['--via', url.format(port)] if url else ['--kdc', f'127.0.0.1:{port}']
        wrong(user, ['login', f'{name}@{REALM}', *way, '--password-stdin'], 1, pattern, password=PASSWORD, root=False)


def test_gss_connect_calls_something_else(pair, guest):
    call = lambda port: ['gss', 'connect', f'127.0.0.1:{port}', '--service', HTTP_SERVICE, '--user', f'{guest.name}@{REALM}', '--password-stdin']
    with Answering(response(400)) as port:
        wrong(guest, call(port), 1, r"a frame of \d+ bytes, and at most 65000 are taken; is the other side 'sallyport gss'\?", password=PASSWORD)
    with Answering(b'\0\0\0\x03abc') as port:
        wrong(guest, call(port), 1, '.*; nothing was changed', password=PASSWORD)
    with Answering(b'') as port:
        wrong(guest, call(port), 1, 'the other side sends nothing: .*; see what it says', password=PASSWORD)


@pytest.mark.parametrize('argv', [['login', '{who}'], ['gss', 'connect', '{at}', '--service', HTTP_SERVICE, '--user', '{who}']], ids=['login', 'connect'])
@pytest.mark.parametrize('act, code, text', [
    (b'half a pass\x03', -signal.SIGINT, 'interrupted; nothing was changed'),
    (b'\n', 2, 'the password is empty; give one line'),
    (b'\x04', 2, 'the password is empty; give one line'),
], ids=['control-C', 'return', 'control-D'])
def test_the_question_for_a_password(pair, guest, argv, act, code, text):
    argv = [word.format(who=f'{guest.name}@{REALM}', at=f'127.0.0.1:{pair.port}') for word in argv]
    status, said, echo = harness.ask_on_terminal([SALLYPORT, '--root', pair.realm.root, *argv], 'assword', lambda pid, fd: os.write(fd, act), guest.env)
    assert status == code and echo and text in said and said.count('sallyport:') == 1 and 'half a pass' not in said, (status, said, echo)
    assert not guest.cache.exists()


@pytest.mark.parametrize('places, code, cache, said', [
    ('>&-', 1, True, 'standard output cannot be written; what was asked for was done'),
    ('>/dev/full', 1, True, 'standard output cannot be written; what was asked for was done'),
    ('2>&-', 0, True, ''),
    ('--trace 2>&-', 0, True, ''),
    ('--trace 2>/dev/full', 0, True, ''),
    ('<&-', 1, False, 'the password cannot be read: Bad file descriptor; nothing was changed'),
    ('<&- >&- 2>&-', 1, False, ''),
])
def test_standard_places_that_are_not_there(realm, user, name, places, code, cache, said):
    """What was meant for people goes into no socket and no file."""
    script = f'"$@" --password-stdin {places}'
    answer = run(['sh', '-c', script, 'sh', SALLYPORT, 'login', f'{name}@{REALM}', '--kdc', f'127.0.0.1:{realm.port}'], stdin=PASSWORD + '\n', env=user.env)
    assert answer.code == code and user.cache.exists() == cache and (not said or f'sallyport: {said}\n' == answer.text), answer.text
    if cache:
        holds(user, TGT, name)


def test_a_full_disk_for_a_collection(user, name, home):
    disk = home / 'disk'
    disk.mkdir()
    script = ('mount -t tmpfs -o size=16k none "$0" || exit 99; mkdir -m 700 "$0/caches"; dd if=/dev/zero of="$0/fill" bs=1k 2>/dev/null; '
              '"$@"; code=$?; ls -A "$0/caches"; exit $code')
    answer = user.login(f'{name}@{REALM}', '--cache', f'DIR:{disk}/caches', prefix=['unshare', '-m', 'sh', '-c', script, disk])
    assert answer.code == 1 and re.fullmatch('sallyport: .* cannot be (made|written): No space left on device; nothing was changed\n', answer.text), answer.text


# ---- nothing of this needs root ----

class Ordinary(User):
    """A user like any other: no rights, a home of one's own, and configuration that belongs to root."""

    def __init__(self, realm, home):
        super().__init__(realm, home)
        self.id = pwd.getpwnam('nobody')
        self.drop = ['setpriv', f'--reuid={self.id.pw_uid}', f'--regid={self.id.pw_gid}', '--clear-groups', '--no-new-privs']
        self.env['SALLYPORT_ROOT'] = str(realm.root)
        self.name = realm.user()
        self.who = f'{self.name}@{REALM}'
        self.own(home)

    def own(self, path):
        os.chown(path, self.id.pw_uid, self.id.pw_gid)
        return path

    def __call__(self, *argv, **more):
        return super().__call__(*argv, root=False, prefix=self.drop, **more)

    def login(self, *argv, **more):
        return super().login(self.who, *argv, **more)

    def stock(self, root, *argv, **env):
        need_peer(root)
        return run(peer(root, *self.drop, *argv), env=dict(self.env, **env))

    def keytab(self, of):
        path = self.home / 'http.keytab'
        path.write_bytes(of.read_bytes())
        path.chmod(0o600)
        return self.own(path)


@pytest.fixture
def ordinary(pair, home):
    return Ordinary(pair.realm, home)


@pytest.mark.parametrize('cache', ['FILE:{home}/cc', 'DIR:{home}/caches', 'KEYRING:user:sallyport-{name}', 'KEYRING:persistent:{uid}', ''])
def test_an_ordinary_users_cache(ordinary, cache):
    cache = cache.format(home=ordinary.home, name=ordinary.name, uid=ordinary.id.pw_uid)
    usual = pathlib.Path(f'/tmp/krb5cc_{ordinary.id.pw_uid}')
    assert not usual.exists(), 'somebody uses that account'
    env = {'KRB5CCNAME': cache}
    try:
        told = json.loads(ordinary.login('--json', env=env).ok())
        assert told['cache'].replace('DIR::', 'DIR:').startswith(cache or f'FILE:{usual}')
        text = ordinary.stock('mit', 'klist', KRB5CCNAME=told['cache']).ok()
        assert f'Default principal: {ordinary.who}' in text and f'{TGT}@{REALM}' in text, text
        assert 'kvno = ' in ordinary.stock('mit', 'kvno', HTTP_SERVICE, KRB5CCNAME=told['cache']).ok()
        ordinary.login('--service', HTTP_SERVICE, env=env).ok()
        if cache.startswith('FILE') or not cache:
            where = pathlib.Path(told['cache'][5:]).stat()
            assert (where.st_uid, where.st_mode & 0o7777) == (ordinary.id.pw_uid, 0o600)
    finally:
        ordinary.stock('mit', 'kdestroy', '-A', KRB5CCNAME=told['cache'])
        usual.unlink(missing_ok=True)


def test_an_ordinary_users_cache_that_a_daemon_keeps(ordinary, kcm):
    ordinary.env.update(KRB5_CONFIG=str(ordinary.realm.krb5_conf(kcm_socket=kcm)), KRB5CCNAME='KCM:')
    assert json.loads(ordinary.login('--json').ok())['cache'] == 'KCM:'
    holds(ordinary, TGT, ordinary.name)
    root = User(ordinary.realm, ordinary.home)
    root.env.update(ordinary.env)
    assert ordinary.name not in root.stock('mit', 'klist').text            # another user's


def test_an_ordinary_user_at_both_ends(ordinary, pair):
    keytab, port = ordinary.keytab(pair.keytab), free_port()
    server = Server([*ordinary.drop, SALLYPORT, 'gss', 'serve', '--json', '--keytab', keytab, '--listen', f'127.0.0.1:{port}'],
                    ordinary.home / 'serve.log', port, env=ordinary.env)
    try:
        web = pair.web(f'ordinary-{ordinary.name}')
        ordinary.login('--via', f'http://127.0.0.1:{web}/').ok()
        holds(ordinary, TGT, ordinary.name)
        for mech in MECHS:
            told = json.loads(ordinary('gss', 'connect', f'127.0.0.1:{port}', '--service', HTTP_SERVICE, '--mech', mech, '--user', ordinary.who,
                                       '--password-stdin', '--json', password=PASSWORD).ok())
            assert told['client'] == ordinary.who and told['echo'] == 'hello'
        assert json.loads(ordinary('gss', 'connect', f'127.0.0.1:{port}', '--service', HTTP_SERVICE, '--json').ok())['client'] == ordinary.who
        assert (ordinary.home / 'rcache').stat().st_uid == ordinary.id.pw_uid
    finally:
        server.stop()


def test_an_ordinary_users_programs(ordinary, pair):
    (ordinary.home / 'mech').write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
    (ordinary.home / 'no-kdc.conf').write_text(f'[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n')
    ordinary.env.update(GSS_MECH_CONFIG=str(ordinary.home / 'mech'), KRB5_CONFIG=str(ordinary.home / 'no-kdc.conf'))
    report = doctor(ordinary)
    assert report['iakerb'] == str(PLUGIN) and report['courier']['answers'], report
    assert [f for f in report['findings'] if 'GSS_MECH_CONFIG' not in f['what']] == []
    keytab = ordinary.keytab(pair.keytab)
    said = run([*ordinary.drop, harness.BUILD / 'tests/gss_api', 'pair', f'HTTP@{HOST}', f'acceptor={keytab}', f'user={ordinary.name}',
                f'password={PASSWORD}'], env=ordinary.env).ok()
    assert f'peer={ordinary.who}' in said and 'mech=iakerb' in said, said
    ordinary.login().ok()
    said = run([*ordinary.drop, harness.BUILD / 'tests/gss_api', 'pair', f'HTTP@{HOST}', f'acceptor={keytab}'], env=ordinary.env).ok()
    assert f'peer={ordinary.who}' in said, said


# ---- a stock web server with our mechanism in it ----

PLUGIN = harness.BUILD / 'src/plugin/mech_sallyport.so'
OWN_OID = '1.3.6.1.4.1.32473.88.5'      # an interposer needs one of its own


@pytest.fixture(scope='module')
def apache(pair, place):
    """Stock Apache with mod_auth_gssapi; the interposer is all that is ours in it."""
    assert PLUGIN.exists(), f'{PLUGIN} is not built'
    mech = place / 'login-mech'
    mech.write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
    server = harness.apache(place / 'login-apache', pair.realm, several_rounds=True, GSS_MECH_CONFIG=mech, SALLYPORT_ROOT=pair.realm.root)
    server.mech = mech
    yield server
    server.stop()


def user_of(guest, apache):
    """Who stock curl is there: its configuration names no KDC, so all it has is the way through the server."""
    conf = guest.home / 'no-kdc.conf'
    conf.write_text(f'[libdefaults]\n  default_realm = {REALM}\n  dns_lookup_kdc = false\n  rdns = false\n  dns_canonicalize_hostname = false\n')
    text = curl(apache, dict(guest.env, KRB5_CONFIG=str(conf), GSS_MECH_CONFIG=str(apache.mech))).ok()
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
