# SPDX-License-Identifier: MIT
"""IAKERB between us and what other people ship: Debian's libgssapi 1.20.1 in its own dialect, python3-gssapi, Cyrus SASL and
Java through our mechanism, a Samba AD domain controller behind the acceptor; and what is on the wire, read from captures.

Apache, curl and PostgreSQL are in test_mech.py and test_login.py."""
import base64
import contextlib
import ctypes
import importlib.util
import json
import os
import pathlib
import re
import select
import socket
import struct
import subprocess
import sys
import time

import pytest

import harness
from harness import BUILD, HOST, PASSWORD, REALM, SALLYPORT, TOP, WRONG_PASSWORD, Server, free_port, need_peer, peer, run

HERE = pathlib.Path(__file__).parent
PLUGIN = BUILD / 'src/plugin/mech_sallyport.so'
OWN_OID = '1.3.6.1.4.1.32473.88.5'
IAKERB, SPNEGO = '1.3.6.1.5.2.5', '1.3.6.1.5.5.2'
SERVICE, TARGET = f'HTTP/{HOST}', f'HTTP@{HOST}'
CAPTURE = TOP / 'tools/capture.py'
JAVA = '/usr/lib/jvm/java-17-openjdk-amd64/bin/java'
CLONE_NEWNET = 0x40000000

spec = importlib.util.spec_from_file_location('capture', CAPTURE)
capture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(capture)


# ---- a network of one's own ----

def libc(name, *words):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words) != 0:
        raise OSError(ctypes.get_errno(), name)


class Network:
    """A network namespace with loopback and a default route into a void, where every packet can be seen. What is started
    inside `with network:` is in it."""

    def __init__(self):
        self.outside = os.open('/proc/self/ns/net', os.O_RDONLY)
        libc('unshare', CLONE_NEWNET)
        self.inside = os.open('/proc/self/ns/net', os.O_RDONLY)
        for words in ('link set lo up', 'link add wire type veth peer name void', 'link set wire up', 'link set void up',
                      'address add 192.0.2.1/24 dev wire', 'neighbour add 192.0.2.254 lladdr 02:00:00:00:00:01 dev wire',
                      'route add default via 192.0.2.254'):
            run(['ip', *words.split()]).ok()
        self.__exit__()

    def __enter__(self):
        libc('setns', self.inside, CLONE_NEWNET)

    def __exit__(self, *_):
        libc('setns', self.outside, CLONE_NEWNET)

    @contextlib.contextmanager
    def recorded(self, home, interface):
        """What went over an interface meanwhile; the file is whole when this is left."""
        path = home / f'{interface}.pcap'
        with self:
            recorder = subprocess.Popen([sys.executable, CAPTURE, 'record', interface, path])
        while not (path.exists() and path.stat().st_size >= 24):
            assert recorder.poll() is None
            time.sleep(0.02)
        try:
            yield path
        finally:
            recorder.terminate()
            recorder.wait(30)

    def close(self):
        os.close(self.inside)
        os.close(self.outside)


# ---- a realm, and users who know no KDC ----

def bare(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(('KRB5', 'SALLYPORT', 'GSS'))}
    return dict(env, LC_ALL='C', **more)


def conf(path, realm=REALM, **more):
    lines = dict(default_realm=realm, dns_lookup_kdc='false', dns_lookup_realm='false', rdns='false',
                 dns_canonicalize_hostname='false', **more)
    path.write_text('[libdefaults]\n' + ''.join(f'    {k} = {v}\n' for k, v in lines.items()))
    return path


class Local:
    """Our daemon, and the keys of a web service."""

    def __init__(self, dir):
        dir.mkdir()
        dir.chmod(0o755)
        self.dir, self.realm = dir, harness.SallyportRealm(dir / 'realm') if (dir / 'realm').mkdir() is None else None
        self.realm.service_add(SERVICE)
        self.keytab = dir / 'http.keytab'
        self.realm.keytab(SERVICE, self.keytab)
        self.mech = dir / 'mech.conf'
        self.mech.write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
        self.servers = []

    def serve(self, *options, keytab=None, root=None):
        """gss serve; its port."""
        port = free_port()
        argv = [SALLYPORT, '--root', root or self.realm.root, 'gss', 'serve', '--json', '--keytab', keytab or self.keytab,
                '--listen', f'127.0.0.1:{port}', *options]
        self.servers.append(Server(argv, self.dir / f'serve-{port}.log', port, bare(KRB5RCACHENAME=f'file2:{self.dir}/rcache')))
        return port

    def accepted(self):
        """What the gss serve that was started last told."""
        time.sleep(0.1)
        return [json.loads(line) for line in self.servers[-1].said().splitlines() if line.startswith('{')]

    def contexts(self, text, count=1):
        """The records of acceptors in which these words stand."""
        for _ in range(100):
            lines = [json.loads(line) for line in self.realm.records().read_text().splitlines()]
            found = [r for r in lines if r['event'] == 'context' and text in json.dumps(r)]
            if len(found) >= count:
                break
            time.sleep(0.05)
        return found

    def close(self):
        for server in self.servers:
            server.stop()
        self.realm.close()


class User:
    def __init__(self, local, home, plugin=True):
        self.local, self.home, self.name = local, home, local.realm.user()
        self.who = f'{self.name}@{REALM}'
        self.cache = home / 'cc'
        self.env = bare(HOME=str(home), KRB5_CONFIG=str(conf(home / 'no-kdc.conf')), KRB5CCNAME=f'FILE:{self.cache}',
                        KRB5RCACHEDIR=str(home), SALLYPORT_ROOT=str(local.realm.root))
        if plugin:
            self.env['GSS_MECH_CONFIG'] = str(local.mech)

    def login(self):
        """A TGT, got through the daemon of this machine."""
        run([SALLYPORT, 'login', self.who, '--password-stdin'], stdin=PASSWORD + '\n', env=self.env).ok()

    def connect(self, port, *options, password=PASSWORD, prefix=()):
        env = dict(self.env, SALLYPORT_ROOT=str(self.home))         # where no daemon runs
        return run([*prefix, SALLYPORT, 'gss', 'connect', f'127.0.0.1:{port}', '--service', SERVICE, '--json', *options,
                    *(['--user', self.who, '--password-stdin'] if password else [])], stdin=f'{password}\n', env=env)

    def python(self, role, port, who, *options, **env):
        """The command line of gss_peer.py in the root that has python3-gssapi, and its environment."""
        need_peer('gss')
        return peer('gss', '/usr/bin/python3', HERE / 'gss_peer.py', role, port, who, *options), dict(self.env, **env)

    def initiate(self, port, *options, target=TARGET, password=PASSWORD, **env):
        more = ['--user', self.who, '--password', password] if password else []
        argv, env = self.python('initiate', port, target, *more, *options, **env)
        return run(argv, env=env)

    @contextlib.contextmanager
    def accepting(self, *options, **env):
        """gss_peer.py as acceptor: its port, and a function that tells what it said."""
        port = free_port()
        argv, env = self.python('accept', port, self.local.keytab, *options, **env)
        process = subprocess.Popen([str(a) for a in argv], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            wait_for_listener(port, process)
            yield port, lambda: json.loads(process.stdout.readline())
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def wait_for_listener(port, process):
    """Without calling it: who accepts once would take that for the caller."""
    for _ in range(200):
        with open('/proc/net/tcp', encoding='ascii') as f:
            if any(line.split()[1].endswith(f':{port:04X}') and line.split()[3] == '0A' for line in f.readlines()[1:]):
                return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f'nobody listens on {port}')


@pytest.fixture(scope='module')
def local(place):
    assert PLUGIN.exists(), f'{PLUGIN} is not built'
    it = Local(place / 'iakerb')
    yield it
    it.close()


@pytest.fixture
def user(local, home):
    return User(local, home)


@pytest.fixture
def stock(local, home):
    """Without our mechanism: what Debian's libgssapi 1.20.1 has built in."""
    return User(local, home, plugin=False)


# ---- Debian's own IAKERB, which follows a draft of its own ----

@pytest.fixture(scope='module')
def initiator(place):
    program = place / 'old_initiator'
    run(['gcc', '-Wall', '-Werror', '-o', program, HERE / 'old_initiator.c', '-lgssapi_krb5']).ok()
    return program


def test_old_mit_initiator(local, stock, initiator):
    port = local.serve('--old-mit')
    text = run([initiator, port, TARGET, stock.name, PASSWORD], env=stock.env).ok()
    assert 'echo=good day' in text, text
    accepted = [a for a in local.accepted() if 'client' in a][-1]
    assert accepted['client'] == stock.who and accepted['old_mit'] and accepted['mech'] == 'iakerb', accepted
    run([initiator, port, TARGET, stock.name, WRONG_PASSWORD], env=stock.env).refused('Password incorrect', 'reauthentication failed')


def test_old_mit_initiator_is_refused_by_default(local, stock, initiator):
    port = local.serve()
    run([initiator, port, TARGET, stock.name, PASSWORD], env=stock.env).refused('init_sec_context', 'the peer is gone')
    assert not [a for a in local.accepted() if 'client' in a]


def test_old_mit_acceptor(local, stock):
    """It asks its KDC directly, so it is told of one."""
    kdc = {'KRB5_CONFIG': str(local.realm.krb5_conf())}
    with stock.accepting(**kdc) as (port, said):
        told = json.loads(stock.connect(port, '--mech', 'iakerb', '--old-mit', '--allow-timestamp').ok())
        assert told['client'] == stock.who and told['old_mit'] and told['echo'] == 'hello', told
        accepted = said()
        assert accepted['client'] == stock.who and accepted['mech'] == 'iakerb' and accepted['echo'] == 'hello', accepted
    with stock.accepting(**kdc) as (port, said):
        stock.connect(port, '--mech', 'iakerb', '--allow-timestamp').refused('.')     # strict: its dialect is none of ours
        assert 'error' in said()


# ---- python3-gssapi through our mechanism ----

@pytest.mark.parametrize('mech', ['iakerb', 'spnego'])
def test_python_initiator(local, user, mech):
    port = local.serve()
    told = json.loads(user.initiate(port, '--mech', mech).ok())
    assert told['client'] == user.who and told['service'] == f'{SERVICE}@{REALM}' and told['echo'] == 'good day', told
    assert local.accepted()[-1]['client'] == user.who
    assert not local.accepted()[-1]['old_mit']
    user.initiate(port, '--mech', mech, password=WRONG_PASSWORD).refused('wrong password')


@pytest.mark.parametrize('mech', ['iakerb', 'spnego'])
def test_python_acceptor(user, mech):
    with user.accepting('--mech', mech) as (port, said):
        told = json.loads(user.connect(port, '--mech', mech).ok())
        assert told['client'] == user.who and told['mech'] == 'iakerb' and told['echo'] == 'hello', told
        accepted = said()
        assert accepted['client'] == user.who and accepted['echo'] == 'hello', accepted
    [record] = user.local.contexts(user.who)
    assert record['code'] == 0 and record['text'] == 'accepted' and record['acceptor'].startswith(SERVICE), record


def test_a_context_that_is_refused_leaves_a_record(local, user):
    port = local.serve('--bindings', 'ours')
    user.connect(port, '--bindings', 'theirs').refused('.')
    [record] = local.contexts('another channel')
    assert record['code'] != 0 and record['source'] == 'uid 0', record
    user.connect(port, '--bindings', 'ours').ok()
    [record] = local.contexts(user.who)
    assert record['code'] == 0 and record['text'] == 'accepted', record


def test_python_at_both_ends_with_a_ticket(user):
    user.login()
    with user.accepting() as (port, said):
        told = json.loads(user.initiate(port, password=None).ok())
        assert told['client'] == user.who and told['echo'] == 'good day'
        assert said()['client'] == user.who
    assert f'{SERVICE}@{REALM}' in run(peer('mit', 'klist'), env=user.env).ok()


# ---- Cyrus SASL ----

class Sample:
    """sasl-sample-client or -server, on a host of the service's name: messages are lines of base64 after "C: " and "S: "."""

    def __init__(self, user, program, *words):
        need_peer('gss')
        self.process = subprocess.Popen(['unshare', '-u', 'sh', '-c', f'hostname {HOST}; exec "$@"', 'sh',
                                         *peer('gss', 'stdbuf', '-o0', program, *words)], env=user.env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        self.text = ''

    def read(self, patterns, patience=20):
        """Output until one of these appears in what has not been looked at; the first match in it."""
        end, seen = time.monotonic() + patience, getattr(self, 'seen', 0)
        while True:
            found = [m for p in patterns if (m := re.compile(p, re.M).search(self.text, seen))]
            if found:
                first = min(found, key=lambda m: m.start())
                self.seen = first.end()
                return first
            assert time.monotonic() < end, f'none of {patterns} in: {self.text}'
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                chunk = os.read(self.process.stdout.fileno(), 65536)
                assert chunk, f'ended: {self.text}'
                self.text += chunk.decode(errors='replace')

    def write(self, line):
        self.process.stdin.write(line.encode() + b'\n')

    def close(self):
        self.process.kill()
        self.process.wait()
        for f in self.process.stdin, self.process.stdout:
            f.close()


def test_cyrus_sasl(local, user):
    """GSS-SPNEGO between its sample programs; neither knows a KDC, the ticket comes through the server."""
    user.login()
    user.env['KRB5_KTNAME'] = str(local.keytab)
    with contextlib.closing(Sample(user, 'sasl-sample-server', '-s', 'HTTP', '-m', 'GSS-SPNEGO')) as server, \
            contextlib.closing(Sample(user, 'sasl-sample-client', '-s', 'HTTP', '-n', HOST, '-m', 'GSS-SPNEGO', '-u', '', '-a', '')) as client:
        message = r'^([CS]): ([A-Za-z0-9+/=]*)\n'
        client.write(f'S: {server.read([message])[2]}')
        legs = 0
        while True:
            legs += 1
            m = client.read([message, r'Negotiation complete', r'(?i)authenticat.*fail.*'])
            if m[0] == 'Negotiation complete':
                break
            server.write(f'C: {m[2]}')
            m = server.read([message, r'Negotiation complete', r'(?i)(generic )?failure.*'])
            if m[0] == 'Negotiation complete':
                break
            client.write(f'S: {m[2]}')
        client.read([r'SSF: (\d+)'])
        assert re.search(rf'Username: {user.name}', server.read([r'Username: .*'])[0]), server.text
    assert f'{SERVICE}@{REALM}' in run(peer('mit', 'klist'), env=user.env).ok()


# ---- Java with the system's libgssapi ----

def java(user, port, mech):
    need_peer('java')
    return run(peer('java', JAVA, '-Dsun.security.jgss.native=true', '-Dsun.security.jgss.lib=libgssapi_krb5.so.2',
                    '-Djavax.security.auth.useSubjectCredsOnly=false', '-Xshare:auto', HERE / 'Native.java', port, TARGET, mech),
               env=user.env)


def test_java(local, user):
    user.login()
    port = local.serve()
    text = java(user, port, IAKERB).ok()
    assert IAKERB in re.search(r'mechanisms=(.*)', text)[1]
    assert f'client={user.who}' in text and 'echo=good day' in text, text
    assert local.accepted()[-1]['client'] == user.who


def test_java_with_spnego(local, user):
    """Its bridge reads every token that it sends as a first one, so SPNEGO works there with one token and never with two:
    once the ticket is in the cache. That is so with any mechanism below SPNEGO."""
    user.login()
    port = local.serve()
    java(user, port, SPNEGO).refused('GSSHeader did not find the right tag')
    run([SALLYPORT, 'login', user.who, '--service', SERVICE, '--password-stdin'], stdin=PASSWORD + '\n', env=user.env).ok()
    text = java(user, port, SPNEGO).ok()
    assert f'client={user.who}' in text and 'echo=good day' in text, text
    assert local.accepted()[-1]['client'] == user.who


# ---- Samba as an AD domain controller: a KDC that is not ours, behind the acceptor ----

AD = 'AD.TEST'
DC_PASSWORD = 'Copper-Meadow-58'


class Domain:
    """A domain controller in a network of its own, so that nothing but the courier's stand reaches its KDC."""

    def __init__(self, dir):
        need_peer('ad')
        dir.mkdir()
        dir.chmod(0o755)
        self.dir, self.network, self.servers = dir, Network(), []
        (dir / 'hosts').write_text('127.0.0.1 localhost\n192.0.2.1 dc.ad.test dc\n')
        self.tool('domain', 'provision', f'--targetdir={dir}/dc', f'--realm={AD}', '--domain=AD', '--server-role=dc', '--dns-backend=NONE',
                  f'--adminpass={DC_PASSWORD}', '--host-name=dc', '--host-ip=192.0.2.1').ok()
        settings = dir / 'dc/etc/smb.conf'
        settings.write_text(settings.read_text().replace('[global]', '[global]\n    kdc default domain supported enctypes = 24', 1))     # AES only
        self.conf = ['-s', settings]
        self.tool('user', 'create', 'alice', PASSWORD, *self.conf).ok()
        self.tool('user', 'create', 'web', DC_PASSWORD, *self.conf).ok()
        self.tool('spn', 'add', SERVICE, 'web', *self.conf).ok()
        self.keytab = dir / 'http.keytab'
        self.tool('domain', 'exportkeytab', self.keytab, f'--principal={SERVICE}', *self.conf).ok()
        with self.network:
            self.servers.append(Server(self.there('samba', '-F', '-M', 'single', '--no-process-group', *self.conf,
                                                  '--option=server services = kdc'), dir / 'samba.log', 88, bare(), patience=40))
        self.root = dir / 'root'
        (self.root / 'run/sallyport').mkdir(parents=True)
        path = self.root / 'run/sallyport/courier.sock'
        with self.network:
            stand = subprocess.Popen([sys.executable, HERE / 'courier_stand.py', path, AD, '127.0.0.1', '88'], stdout=subprocess.PIPE)
        self.stand = stand
        assert stand.stdout.readline() == b'ready\n'

    def there(self, *argv):
        """In the root that has Samba, under another host name."""
        return ['unshare', '-m', '-u', 'sh', '-c', 'hostname dc; exec "$@"', 'sh',
                *peer('ad', 'sh', '-c', f'mount --bind {self.dir}/hosts /etc/hosts; exec "$@"', 'sh', *argv)]

    def tool(self, *words):
        with self.network:
            return run(self.there('samba-tool', *words), env=bare(HOME=str(self.dir)), timeout=180)

    def close(self):
        self.stand.kill()
        self.stand.wait()
        self.stand.stdout.close()
        for server in self.servers:
            server.stop()
        self.network.close()


@pytest.fixture(scope='module')
def domain(place):
    it = Domain(place / 'iakerb-ad')
    yield it
    it.close()


class Member(User):
    """A user of the domain."""

    def __init__(self, domain, local, home):
        super().__init__(local, home)
        self.name, self.who = 'alice', f'alice@{AD}'
        self.env.update(KRB5_CONFIG=str(conf(home / 'no-kdc.conf', AD)), SALLYPORT_ROOT=str(domain.root))


def test_domain_controller(domain, local, home):
    member = Member(domain, local, home)
    port = local.serve(keytab=domain.keytab, root=domain.root)
    answer = member.connect(port, '--mech', 'iakerb')
    answer.refused('only an encrypted timestamp is offered')                  # decision 24
    told = json.loads(member.connect(port, '--mech', 'iakerb', '--allow-timestamp').ok())
    assert told['client'] == member.who and told['service'] == f'{SERVICE}@{AD}' and told['echo'] == 'hello', told
    assert [s['sent'] for s in told['steps']][-1] == 'AP-REQ' and 'TGS-REQ' in [s['sent'] for s in told['steps']]
    assert local.accepted()[-1]['client'] == member.who
    member.connect(port, '--mech', 'iakerb', '--allow-timestamp', password=WRONG_PASSWORD).refused('wrong password')


def test_domain_controller_and_tickets_with_a_pac(domain, local, home):
    """The ticket that came in-band carries the domain's PAC: stock libgssapi reads it out of the very ticket."""
    member = Member(domain, local, home)
    gss, web = local.serve(keytab=domain.keytab, root=domain.root), free_port()
    local.servers.append(Server([sys.executable, HERE / 'negotiate_stand.py', web, gss], home / 'web.log', web, bare()))
    run([SALLYPORT, 'login', member.who, '--via', f'http://127.0.0.1:{web}/', '--allow-timestamp', '--password-stdin'],
        stdin=PASSWORD + '\n', env=member.env).ok()
    told = json.loads(member.connect(gss, '--mech', 'iakerb', password=None).ok())
    assert told['client'] == member.who and [s['sent'] for s in told['steps']] == ['TGS-REQ', 'AP-REQ'], told
    member.initiate(gss, password=None).ok()                 # leaves the service's ticket in the cache
    member.local = type('Keys', (), {'keytab': domain.keytab})
    del member.env['GSS_MECH_CONFIG']
    with member.accepting('--mech', 'krb5') as (port, said):
        member.initiate(port, '--mech', 'krb5', password=None).ok()
        accepted = said()
    assert accepted['client'] == member.who and accepted['attributes'].get('urn:mspac:', 0) > 300, accepted


def test_domain_controller_and_a_ticket_straight_for_the_service(domain, local, home):
    """Active Directory puts the account's own name in the place of the service's into what it gives for --service at once; our
    KDC does not (decisions 13, 14). The client takes no such ticket and comes back by way of a TGT."""
    member = Member(domain, local, home)
    gss, web = local.serve(keytab=domain.keytab, root=domain.root), free_port()
    local.servers.append(Server([sys.executable, HERE / 'negotiate_stand.py', web, gss], home / 'web.log', web, bare()))
    for way in ['--via', f'http://127.0.0.1:{web}/', '--allow-timestamp'], []:
        told = json.loads(run([SALLYPORT, 'login', member.who, *way, '--service', SERVICE, '--password-stdin', '--json'],
                              stdin=PASSWORD + '\n', env=member.env).ok())
        assert told['ticket'] == f'{SERVICE}@{AD}' and told['proof'] == 'timestamp', told
        assert [s['came'] for s in told['steps']][-3:] == ['AS-REP', 'AS-REP', 'TGS-REP'], told
        answer = json.loads(member.connect(gss, '--mech', 'krb5', password=None).ok())
        assert answer['client'] == member.who and len(answer['steps']) == 1, answer
        member.cache.unlink()


# ---- on the wire ----

ODD_REALMS = ['ELSEWHERE', 'elsewhere.example', '192.0.2.77', 'nas1:88', 'TEST.', 'x' * 255]


@pytest.fixture
def network():
    it = Network()
    yield it
    it.close()


def strangers(path, *known):
    """Who was called besides these ports of loopback."""
    return {call: n for call, n in capture.calls(path).items() if not (call[1] == '127.0.0.1' and call[2] in known)}


def in_network(network, place, name):
    with network:
        return Local(place / name)


def test_nothing_leaves_for_realms_that_are_not_ours(network, place, home):
    """T061, for gss serve and for our mechanism under python3-gssapi with MIT's default of looking KDCs up in the DNS."""
    local = in_network(network, place, f'iakerb-{home.name}')
    try:
        with network.recorded(home, 'lo') as loopback, network.recorded(home, 'wire') as wire, network:
            user = User(local, home)
            port = local.serve()
            for realm in ODD_REALMS:
                user.who = f'{user.name}@{realm}'
                answer = user.connect(port, '--mech', 'iakerb')
                answer.refused('the server knows no KDC of this realm', 'realm')
            eager = conf(home / 'eager.conf', 'SOMEWHERE.EXAMPLE')
            eager.write_text(eager.read_text().replace('= false', '= true'))
            with user.accepting('--times', str(len(ODD_REALMS) + 1), KRB5_CONFIG=str(eager)) as (other, said):
                for realm in ODD_REALMS:
                    user.who = f'{user.name}@{realm}'
                    user.connect(other, '--mech', 'iakerb').refused('the server knows no KDC of this realm', 'realm')
                    assert 'error' in said()
                user.who = f'{user.name}@{REALM}'
                assert json.loads(user.connect(other, '--mech', 'iakerb').ok())['client'] == user.who
        assert strangers(loopback, port, other, local.realm.port) == {} and strangers(wire) == {}
        assert capture.calls(loopback)['tcp', '127.0.0.1', port] >= len(ODD_REALMS)
    finally:
        with network:
            local.close()


def test_the_capture_sees_who_asks_the_dns(network, place, home):
    """Debian's own acceptor does what ours must not: the test above can fail."""
    local = in_network(network, place, f'iakerb-{home.name}')
    try:
        with network.recorded(home, 'lo') as loopback, network.recorded(home, 'wire') as wire, network:
            user = User(local, home, plugin=False)
            eager = conf(home / 'eager.conf', 'SOMEWHERE.EXAMPLE')
            eager.write_text(eager.read_text().replace('= false', '= true'))
            with user.accepting(KRB5_CONFIG=str(eager), RES_OPTIONS='timeout:1 attempts:1') as (port, _):
                user.who = f'{user.name}@elsewhere.example'
                user.connect(port, '--mech', 'iakerb', '--old-mit', '--allow-timestamp', prefix=('timeout', '3')).refused('')
        assert any(p == 53 for path in (loopback, wire) for _, _, p in capture.calls(path))
    finally:
        with network:
            local.close()


def secrets(local, user, caches):
    """The password in the spellings of Kerberos and NTLM, long-term keys, and the session keys of every ticket."""
    found = {PASSWORD.encode(), PASSWORD.encode('utf-16-le')}
    for name in user.name, SERVICE, f'krbtgt/{REALM}':
        text = local.realm.command('account', 'keys', name, '--show-secret').ok()
        found |= {bytes.fromhex(word) for word in re.findall(r'\b(?:[0-9a-f]{32}|[0-9a-f]{64})\b', text)}
    assert len(found) == 2 + 3 * 4, 'no keys to look for'
    for cache in caches:
        blob = cache.read_bytes()
        at = 0
        for etype, n in ((17, 16), (18, 32), (19, 16), (20, 32)):       # keyblock of a credential: type, length, key
            for m in re.finditer(re.escape(struct.pack('>HI', etype, n)), blob):
                found.add(blob[m.end():m.end() + n])
                at += 1
        assert at > 0, cache
    return found


def spellings(secret):
    yield secret
    yield secret.hex().encode()
    yield base64.b64encode(secret)[:-4]


def test_no_secret_on_the_wire(network, place, home):
    """T080: a hundred logins, straight to the KDC and through a service, by password and by ticket."""
    local = in_network(network, place, f'iakerb-{home.name}')
    caches = []
    try:
        with network.recorded(home, 'lo') as loopback, network:
            user = User(local, home)
            gss, web = local.serve(), free_port()
            local.servers.append(Server([sys.executable, HERE / 'negotiate_stand.py', web, gss], home / 'web.log', web, bare()))
            ways = [['--kdc', f'127.0.0.1:{local.realm.port}'], ['--via', f'http://127.0.0.1:{web}/']]
            for i in range(100):
                cache = home / f'cc-{i}'
                run([SALLYPORT, 'login', user.who, '--password-stdin', *ways[i % 2], '--cache', f'FILE:{cache}'], stdin=PASSWORD + '\n',
                    env=dict(user.env, SALLYPORT_ROOT=str(home))).ok()
                caches.append(cache)
            user.connect(gss, '--mech', 'iakerb').ok()
            user.env['KRB5CCNAME'] = f'FILE:{caches[0]}'
            user.connect(gss, '--mech', 'spnego', password=None).ok()
            planted = os.urandom(32)                                           # the search below does find what is there
            with socket.create_connection(('127.0.0.1', web)) as sock:
                sock.sendall(b'GET / HTTP/1.1\r\nAuthorization: Negotiate ' + base64.b64encode(planted) + b'\r\n\r\n')
                assert sock.recv(100)
        said = list(capture.contents(loopback))
        everything = b'\0'.join(said)
        assert sum(capture.calls(loopback)['tcp', '127.0.0.1', port] for port in (local.realm.port, web)) >= 100
        assert everything.count(user.name.encode()) >= 200 and planted in everything       # two requests in each login
        for secret in secrets(local, user, caches):
            for spelling in spellings(secret):
                assert spelling not in everything, spelling
    finally:
        with network:
            local.close()
