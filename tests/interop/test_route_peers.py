# SPDX-License-Identifier: MIT
"""Other people's programs through the courier's routes: on a laptop that gets through by one way only, Heimdal, Java, gokrb5,
curl and smbclient, whose KDC is the courier's door on loopback; a Samba AD domain controller behind the native route; and MIT's
programs that are told of no KDC, through the locator and the file as the daemon writes it. The machines are those of test_routes."""
import contextlib
import os
import signal
import time

import pytest

import harness
from harness import BUILD, HOST, PASSWORD, PATIENCE, REALM, WRONG_PASSWORD, Client, peer, run
from test_daemon import as_root
from test_gokrb5 import go, program     # noqa: F401
from test_iakerb import AD, SERVICE, Domain
from test_java import java
from test_locate import UNKNOWN, Locator, conf_without_kdc
from test_relay import FRONT, end_front, start_front
from test_routes import DOOR, OFFICE, VOID, Machine, Network, Sniffer, cable, ip, kinit, laptop, office, reloaded       # noqa: F401
from test_services import smb_client, smb_server

pytestmark = as_root
HOST_SERVICE = f'host/{HOST}'
WAY_DOOR, WAY_KDC, WAY_KPASSWD = 2088, 3088, 3464      # beside another daemon of the same machine, which has the usual ports
PLUGIN = BUILD / 'src/plugin/mech_sallyport.so'
OWN_OID = '1.3.6.1.4.1.32473.88.5'      # an interposer needs one of its own


# ---- the office, and one way to it ----

class Door(harness.Realm):
    """The office's realm as the laptop's programs see it: its KDC is the courier's door."""

    def __init__(self, office, dir):       # noqa: F811
        self.office, self.dir, self.counter, self.port, self.kpasswd_port = office, dir, 0, WAY_DOOR, WAY_DOOR
        self.host_keytab = dir / 'host.keytab'
        self.keytab(HOST_SERVICE, self.host_keytab)

    def account_add(self, name, password, *options):
        self.office.command('account', 'add', name, '--password-stdin', *options, stdin=password + '\n').ok()

    def service_add(self, name, *aliases):
        assert not aliases
        self.office.command('service', 'add', name).ok()

    def keytab(self, name, file):
        self.office.command('service', 'keytab', name, '--out', file).ok()


@pytest.fixture(scope='module')
def door(office, place):        # noqa: F811
    dir = place / 'route-peers'
    dir.mkdir()
    return Door(office, dir)


@pytest.fixture(scope='module')
def web(door, cable):       # noqa: F811
    """Stock Apache on port 80 of the office. It asks for Negotiate and, with our mechanism in it, carries other people's logins."""
    door.service_add(f'HTTP/{HOST}')
    mech = door.dir / 'mech'
    mech.write_text(f'sallyport {OWN_OID} {PLUGIN} <interposer>\n')
    with cable[1]:
        it = harness.apache(door.dir / 'apache', door, several_rounds=True, listen=f'{OFFICE}:80', GSS_MECH_CONFIG=mech,
                            SALLYPORT_ROOT=door.office.root)
    yield it
    it.stop()


@pytest.fixture(scope='module')
def smbd(door, cable):      # noqa: F811
    with cable[1]:
        it = smb_server(door.dir / 'smbd', door, 'lo far')
    yield it
    it.stop()


# What is between the laptop and the office: context managers, of the two networks, the office and a directory.

def dropping(*ports):
    """What comes by the wire for these ports is never heard of again."""
    listed = '{ ' + ', '.join(map(str, ports)) + ' }'
    rules = ''.join(f'iifname "far" {transport} dport {listed} drop\n' for transport in ('tcp', 'udp'))

    @contextlib.contextmanager
    def between(cable, *_):        # noqa: F811
        def nft(text):
            with cable[1]:
                run(peer('gss', 'nft', '-f', '-'), stdin=text).ok()
        harness.need_peer('gss')
        nft(f'table ip gate {{\nchain in {{\ntype filter hook input priority 0;\n{rules}}}\n}}\n')
        try:
            yield
        finally:
            nft('delete table ip gate\n')
    return between


def behind(kind):
    """TLS ends at a stock proxy before the relay."""
    @contextlib.contextmanager
    def between(cable, office, dir):       # noqa: F811
        sock = office.run / 'front.sock'
        with reloaded(office, office.relay + f'[relay]\nplain-listen = {sock}\ntrusted-proxies = unix\n'):
            proxy = start_front(cable, office, dir, kind, [str(sock)])
            try:
                yield
            finally:
                end_front(proxy)
    return between


def nothing(*_):
    return contextlib.nullcontext()


NATIVE, RELAY, IN_BAND = f'kdc = {OFFICE}\n', f'relay = https://{OFFICE}/KdcProxy\n', f'in-band = http://{OFFICE}/\nin-band-timestamp = yes\n'
FRONTED = f'relay = https://{OFFICE}:{FRONT}/KdcProxy\n'
WAYS = {        # what is between, what the laptop knows, how it gets through
    '88-dropped-443-open': (dropping(88, 464), NATIVE + RELAY, 'relay'),
    'only-80-open': (dropping(88, 464, 443), NATIVE + RELAY + IN_BAND, 'in-band'),
    'first-of-three-blackholed': (nothing, f'kdc = {VOID[0]} {OFFICE} {VOID[1]}\n', 'native'),
    'behind-nginx': (behind('nginx'), FRONTED, 'relay'),
    'behind-haproxy': (behind('haproxy'), FRONTED, 'relay'),
    'unplugged-and-back': (nothing, NATIVE, 'native'),
}


class Way(Machine):
    """A laptop that gets through by one rung."""

    def __init__(self, cable, door, name):     # noqa: F811
        between, realm, self.rung = WAYS[name]
        dir = door.dir / name
        dir.mkdir()
        super().__init__(dir / 'root', cable[0], 'LAPTOP')
        self.between, self.pulled, self.door = between(cable, door.office, dir), name.startswith('unplugged'), door
        self.port, self.kpasswd_port = WAY_KDC, WAY_KPASSWD
        self.configure(f'[log]\nflood = 1000000\n[courier]\nlisten-kdc = 127.0.0.1:{WAY_DOOR}\nca-file = {door.office.ca}\n'
                       f'[realm {REALM}]\n{realm}')

    def tickets(self, service):
        return [r for r in self.exchanges() if (r['event'], r['code'], r.get('service')) == ('tgs', 0, f'{service}@{REALM}')]

    @contextlib.contextmanager
    def carries(self, service):
        """What is done meanwhile is done on the laptop, and gets a ticket for that by this rung."""
        before = len(self.tickets(service))
        with self.network:
            if self.pulled:
                self.pull()
            yield
        self.wait(lambda: len(self.tickets(service)) > before, PATIENCE)
        assert {(r['door'], r['transport']) for r in self.exchanges()} == {('loopback', self.rung)}, self.exchanges()

    def pull(self):
        """The wire, out and in again; who asks meanwhile is refused."""
        harness.need_peer('heimdal')
        client = Client(self.door, 'heimdal', self.door.dir, self.door.krb5_conf('heimdal'))
        ip('link set wire down')
        try:
            heimdal_login(client, 'alice').refused('.')
        finally:
            ip('link set wire up')
            for void in VOID:
                ip(f'neighbour replace {void} lladdr 02:00:00:00:00:99 dev wire')
        self.wait(lambda: heimdal_login(client, 'alice').code == 0, PATIENCE)


@pytest.fixture(scope='module', params=WAYS)
def way(request, cable, door, web):        # noqa: F811
    it = Way(cable, door, request.param)
    with it.between:
        it.start()
        yield it
        assert it.stop() == 0
    assert not it.records('worker-restart'), it.records('worker-restart')


def heimdal_login(client, name, password=PASSWORD):
    return client.run('kinit', '--password-file=STDIN', name, stdin=password + '\n')


def mit_client(door, home):
    """With a TGT of a user of its own: client, name. To be called where the door is."""
    harness.need_peer('mit')
    client, name = Client(door, 'mit', home, door.krb5_conf()), door.user()
    client.run('kinit', name, stdin=PASSWORD + '\n').ok()
    return client, name


def test_mit(way, door, home):
    with way.carries(HOST_SERVICE):
        client, _ = mit_client(door, home)
        assert f'{HOST_SERVICE}@{REALM}: kvno = ' in client.run('kvno', HOST_SERVICE).ok()


@pytest.mark.parametrize('flavour', ['heimdal', 'heimdal-tcp'])
def test_heimdal(way, door, home, flavour):
    harness.need_peer('heimdal')
    client, name = Client(door, 'heimdal', home, door.krb5_conf(flavour)), door.user()
    with way.carries(HOST_SERVICE):
        heimdal_login(client, name).ok()
        client.run('kgetcred', HOST_SERVICE).ok()
        assert HOST_SERVICE in client.klist().ok()
        heimdal_login(client, name, WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')


def test_java(way, door, home):
    name = door.user()
    with way.carries(HOST_SERVICE):
        text = java(door, home, name, PASSWORD).ok()
    assert f'context 1.2.840.113554.1.2.2 from {name}@{REALM} mutual true' in text
    assert f'context 1.3.6.1.5.5.2 from {name}@{REALM} mutual true' in text


def test_gokrb5(way, door, home, program):      # noqa: F811
    name = door.user()
    with way.carries(HOST_SERVICE):
        assert f'ticket for {HOST_SERVICE} of {name}' in go(door, home, program, 'password', name, PASSWORD).ok()
        go(door, home, program, 'password', name, WRONG_PASSWORD).refused('KDC_ERR_PREAUTH_FAILED')


def test_curl_to_apache(way, door, home):
    """Port 80 is open in each situation."""
    with way.carries(f'HTTP/{HOST}'):
        client, name = mit_client(door, home)
        text = client.run('curl', '-sS', '-i', '--noproxy', '*', '--resolve', f'{HOST}:80:{OFFICE}', '--negotiate', '-u', ':',
                          f'http://{HOST}/').ok()
        assert f'HTTP/{HOST}@{REALM}' in client.klist().ok()
    assert '200 OK' in text and 'through the small gate' in text and f'X-User: {name}@{REALM}' in text


def test_smbclient(way, door, home, smbd):
    with way.carries(f'cifs/{HOST}'):
        client, _ = mit_client(door, home)
        smb = smb_client(door, home, smbd, OFFICE).smb
        assert 'through the small gate' in smb(f'--use-krb5-ccache={client.cache}').ok()
        assert f'cifs/{HOST}@{REALM}' in client.klist().ok()


def test_smbclient_logs_in_by_itself(way, door, home, smbd):
    name = door.user()
    with way.carries(f'cifs/{HOST}'):
        smb = smb_client(door, home, smbd, OFFICE).smb
        assert 'through the small gate' in smb('-U', f'{name}@{REALM}%{PASSWORD}').ok()


def test_what_is_known_to_be_dead_stays_so(laptop, cable, kinit):      # noqa: F811
    """Link-local addresses come and go with every interface, and routers renew what they gave: neither is another network."""
    it = laptop(f'kdc = {VOID[0]}\n' + RELAY)
    known = f'{VOID[0]}:88'

    def ipv6(words):
        with cable[0]:
            ip('-6 ' + words)

    def tried_anew():
        ipv6('address add 2001:db8::6/64 dev wire nodad')
        time.sleep(0.4)
        state = it.routes()[known]['state']
        ipv6('address del 2001:db8::6/64 dev wire')
        return state != 'dead'
    ipv6('address add 2001:db8::5/64 dev wire nodad valid_lft 6000 preferred_lft 6000')
    try:
        it.wait(lambda: kinit(script='kinit alice').code == 0 and it.routes()[known]['state'] == 'dead', PATIENCE)
        time.sleep(3.5)         # what is renewed sooner counts as another address; and nothing is being tried any more
        ipv6('address change 2001:db8::5/64 dev wire nodad valid_lft 7000 preferred_lft 7000')
        ipv6('address add fe80::5/64 dev wire nodad')
        ipv6('address del fe80::5/64 dev wire')
        time.sleep(0.6)
        assert it.routes()[known]['state'] == 'dead'
        it.wait(tried_anew, PATIENCE)
    finally:
        ipv6('address flush dev wire scope global')


# ---- Samba as an AD domain controller, whose tickets are too large for UDP ----

TEAMS = 600
JOIN_TEAMS = f'''
import sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
settings = LoadParm()
settings.load(sys.argv[1])
db = SamDB(session_info=system_session(settings), lp=settings)
db.transaction_start()
for i in range({TEAMS}):
    db.newgroup(f'team{{i}}')
    db.add_remove_group_members(f'team{{i}}', ['alice'], add_members_operation=True)
db.transaction_commit()
'''


@pytest.fixture(scope='module')
def domain(place):
    """alice is in so many groups that the PAC in her tickets has kilobytes."""
    it = Domain(place / 'route-ad')
    with it.network:
        run(it.there('/usr/bin/python3', '-c', JOIN_TEAMS, it.dir / 'dc/etc/smb.conf'), timeout=300).ok()
    yield it
    it.close()


@pytest.fixture(scope='module')
def member(domain, place):
    """A laptop at the other end of the domain's wire, whose programs know the courier's door."""
    network = Network()
    with domain.network:
        ip(f'link set void netns /proc/{os.getpid()}/fd/{network.inside}')
    with network:
        ip('link set void up')
        ip('address add 192.0.2.2/24 dev void')
    it = Machine(place / 'route-ad-laptop', network, 'LAPTOP')
    it.configure(f'[log]\nflood = 1000000\n[courier]\nlisten-kdc = 127.0.0.1:{DOOR}\n[realm {AD}]\nkdc = 192.0.2.1\n')
    yield it.start()
    assert it.stop() == 0
    assert not it.records('worker-restart'), it.records('worker-restart')
    network.close()


@pytest.fixture
def alice(member, home):
    """sh(script) as alice, who knows the courier alone."""
    harness.need_peer('mit')
    file = home / 'krb5.conf'
    file.write_text(f'[libdefaults]\n default_realm = {AD}\n dns_lookup_kdc = false\n rdns = false\n dns_canonicalize_hostname = false\n'
                    f'[realms]\n {AD} = {{\n  kdc = 127.0.0.1:{DOOR}\n }}\n[domain_realm]\n .test = {AD}\n')
    env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(file), KRB5CCNAME=f'FILE:{home}/cc', KRB5_TRACE=f'{home}/trace')

    def sh(script, password=PASSWORD):
        with member.network:
            return run(peer('mit', 'sh', '-c', script), stdin=password + '\n', env=env)
    return sh


def called(packets, protocol):
    """Whether one of them is such a one for port 88."""
    return any(p[23] == protocol and p[14 + 4 * (p[14] & 15) + 2:][:2] == (88).to_bytes(2, 'big') for p in packets)


def test_large_tickets_of_a_domain_controller(domain, member, alice, home):
    """Too large for UDP at either end: the domain controller says so to the courier, and the courier to kinit."""
    sniffer = Sniffer(domain.network)
    with contextlib.closing(sniffer.socket):
        alice('kinit alice').ok()
        packets = sniffer.ip_packets()
    assert called(packets, 17) and called(packets, 6)
    trace = (home / 'trace').read_text(errors='replace')
    assert f'Sending initial UDP request to dgram 127.0.0.1:{DOOR}' in trace and 'too big for UDP' in trace, trace
    assert f'Sending TCP request to stream 127.0.0.1:{DOOR}' in trace, trace
    said = alice(f'kvno -k {domain.keytab} {SERVICE}').ok()
    assert f'{SERVICE}@{AD}: kvno = ' in said and 'keytab entry valid' in said
    assert (home / 'cc').stat().st_size > 2 * 8 * TEAMS     # two tickets, with eight bytes for each group in each
    member.wait(lambda: [r for r in member.exchanges(AD) if (r['event'], r['code']) == ('tgs', 0)], PATIENCE)
    assert {(r['door'], r['transport']) for r in member.exchanges(AD)} == {('loopback', 'native')}
    assert member.routes(AD)['192.0.2.1:88']['state'] == 'alive'


def test_errors_of_a_domain_controller(member, alice):
    alice('kinit alice', password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    alice('kinit nobody98').refused('not found in Kerberos database')
    alice('kinit alice && kvno host/nowhere.test').refused('not found in Kerberos database')
    assert member.routes(AD)['192.0.2.1:88']['state'] == 'alive'


# ---- the locator, and the file that the daemon writes ----

@pytest.fixture
def told_nothing(cable, home):      # noqa: F811
    """locate(machine, script): MIT's programs with a krb5.conf that knows no KDC, on the machine with that daemon."""
    harness.need_peer('mit')
    locator = Locator(home)
    env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(conf_without_kdc(home)), KRB5CCNAME=f'FILE:{home}/cc', KRB5_TRACE=f'{home}/trace')

    def locate(machine, script=f'kinit alice && kvno {HOST_SERVICE}'):
        locator.dir = machine.run
        with cable[0]:
            return run(locator.over('sh', '-c', script), stdin=PASSWORD + '\n', env=env)
    return locate


def test_the_locator_finds_the_door(laptop, told_nothing, home):        # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    assert f'{HOST_SERVICE}@{REALM}: kvno = ' in told_nothing(it).ok()
    assert f'127.0.0.1:{DOOR}' in (home / 'trace').read_text(errors='replace')
    it.wait(lambda: [r for r in it.exchanges() if (r['event'], r['code']) == ('tgs', 0)], PATIENCE)
    assert {(r['door'], r['transport']) for r in it.exchanges()} == {('loopback', 'native')}


def test_the_locator_finds_this_machines_own_kdc(laptop, told_nothing):     # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    it.command('account', 'add', 'bob', '--password-stdin', stdin=PASSWORD + '\n').ok()
    told_nothing(it, 'kinit bob@LAPTOP').ok()
    it.wait(lambda: [r for r in it.records('as') if r['code'] == 0 and r['client'] == 'bob@LAPTOP'], PATIENCE)


@pytest.mark.parametrize('how', ['stopped', 'killed'])
def test_the_locator_is_silent_without_its_daemon(laptop, told_nothing, how):      # noqa: F811
    it = laptop(f'kdc = {OFFICE}\n')
    told_nothing(it).ok()
    if how == 'stopped':
        assert it.stop() == 0
        assert not (it.run / 'locate').exists()
    else:
        os.kill(it.pid, signal.SIGKILL)
        it.server.process.wait(PATIENCE)
        assert (it.run / 'locate').exists()
        it.wait(lambda: run(['pgrep', '-s', it.pid]).code != 0, PATIENCE)       # what it had started ends too
        it.server = None
    told_nothing(it).refused(UNKNOWN)
    it.start()
    told_nothing(it).ok()
