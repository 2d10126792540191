# SPDX-License-Identifier: MIT
"""Stock MIT programs that find their KDC through sallyport_locate.so.

The plugin lies where libkrb5 looks for it and the file where the plugin does, both in the peers' private mount
namespace. The file is written here, by a second reading of src/courier/locate.h, and its lock is this process's.
"""
import fcntl
import os
import pathlib
import re
import shutil
import socket
import struct
import time

import pytest

from harness import BUILD, HOST, OTHER_PASSWORD, PASSWORD, REALM, WRONG_PASSWORD, Client, converse, free_port, need_peer, peer, run

HERE = pathlib.Path(__file__).resolve().parent
KDC, KPASSWD = 1, 2
UDP, TCP = 1, 2
NOBODY_ELSE = 12345
UNKNOWN = 'Cannot find KDC for realm'
LAID_OVER = '''set -e
mount --bind "$1" "$2"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sallyport
mount --bind "$3" /run/sallyport
shift 3
exec "$@"'''


def boot_us():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def name(text):
    return struct.pack('>B', len(text)) + text.encode()


def door(service, transport, port, address='127.0.0.1'):
    ip = socket.inet_pton(socket.AF_INET6 if ':' in address else socket.AF_INET, address)
    return struct.pack('>BBB', service, transport, len(ip)) + ip + struct.pack('>H', port)


def entry(realm, doors, aliases=(), no_way_until=0):
    body = struct.pack('>BBQ', len(aliases), len(doors), no_way_until) + name(realm)
    body += b''.join(map(name, aliases)) + b''.join(doors)
    return struct.pack('>H', len(body)) + body


def whole(*entries):
    rest = b''.join(entries)
    return b'SPLOCATE' + struct.pack('>HHIQQ', 1, len(entries), 32 + len(rest), 1, boot_us()) + rest


class Locator:
    """The directory run/sallyport of a host, and the daemon that stands behind its file."""

    def __init__(self, home):
        self.home, self.dir, self.held = home, home / 'run', None
        self.dir.mkdir()
        self.dir.chmod(0o755)
        self.file = self.dir / 'locate'
        self.plugins = home / 'libkrb5'
        self.plugins.mkdir()
        shutil.copy(BUILD / 'src/plugin/sallyport_locate.so', self.plugins)
        self.place = next(pathlib.Path('/usr/lib').glob('*/krb5/plugins/libkrb5'))

    def write(self, content):
        made = self.dir / 'locate.part'
        held = open(made, 'wb', buffering=0)
        fcntl.fcntl(held, fcntl.F_OFD_SETLK, struct.pack('hhqqi', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        held.write(content)
        os.fchmod(held.fileno(), 0o644)
        os.rename(made, self.file)
        if self.held:
            self.held.close()
        self.held = held

    def end(self):
        """As a daemon does that is killed: the file stays."""
        self.held.close()
        self.held = None

    def over(self, *argv):
        return peer('mit', '/bin/sh', '-c', LAID_OVER, 'laid-over', self.plugins, self.place, self.dir, *argv)


class LocatedClient(Client):
    def __init__(self, realm, home, conf, locator):
        super().__init__(realm, 'mit', home, conf)
        self.locator = locator

    def run(self, *argv, stdin='', **env):
        return run(self.locator.over(*argv), stdin=stdin, env=dict(self.env, **env))

    def converse(self, argv, script):
        return converse(self.locator.over(*argv), script, env=self.env)


def doors_of(realm):
    return [door(KDC, UDP, realm.port), door(KDC, TCP, realm.port), door(KPASSWD, UDP, realm.kpasswd_port)]


def conf_without_kdc(home, **libdefaults):
    lines = dict(default_realm=REALM, dns_lookup_kdc='false', dns_lookup_realm='false', rdns='false',
                 dns_canonicalize_hostname='false', **libdefaults)
    file = home / 'without-kdc.conf'
    file.write_text('[libdefaults]\n' + ''.join(f'    {k} = {v}\n' for k, v in lines.items()) +
                    f'[domain_realm]\n    .test = {REALM}\n')
    return file


@pytest.fixture
def locator(realm, home):
    need_peer('mit')
    it = Locator(home)
    it.write(whole(entry('ELSEWHERE', [door(KDC, UDP, 9)]), entry(REALM, doors_of(realm), ['TESTDOM'])))
    yield it
    if it.held:
        it.end()


@pytest.fixture
def client(realm, home, locator):
    return LocatedClient(realm, home, conf_without_kdc(home), locator)


def kinit(client, who, *options, password=PASSWORD):
    return client.run('kinit', *options, who, stdin=password + '\n')


def test_login_and_service_ticket_without_a_word_in_krb5_conf(realm, client):
    kinit(client, realm.user()).ok()
    assert 'host/nas1.test@TEST: kvno' in client.run('kvno', f'host/{HOST}').ok()
    sent = re.findall(r'Sending initial UDP request to (\S+ \S+)', client.traced())
    assert set(sent) == {f'dgram 127.0.0.1:{realm.port}'}, client.traced()


def test_tcp_alone(realm, home, locator):
    locator.write(whole(entry(REALM, [door(KDC, TCP, realm.port)])))
    client = LocatedClient(realm, home, conf_without_kdc(home), locator)
    kinit(client, realm.user()).ok()
    assert f'stream 127.0.0.1:{realm.port}' in client.traced() and 'dgram' not in client.traced()


def test_password_change(realm, client):
    who = realm.user()
    client.converse(['kpasswd', who], [('Password for', PASSWORD), ('Enter new', OTHER_PASSWORD),
                                       ('Enter it again', OTHER_PASSWORD)]).ok()
    kinit(client, who, password=OTHER_PASSWORD).ok()


def test_a_wrong_password_is_not_tried_at_a_primary_kdc(realm, client):
    kinit(client, realm.user(), password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    assert client.traced().count('Sending initial UDP request') == 2, client.traced()    # 25, then the proof


def test_a_realm_that_is_not_carried_goes_its_usual_way(realm, home, locator):
    locator.write(whole(entry('ELSEWHERE', [door(KDC, UDP, 9)])))
    kinit(LocatedClient(realm, home, conf_without_kdc(home), locator), 'alice').refused(UNKNOWN)
    kinit(LocatedClient(realm, home, realm.krb5_conf(), locator), realm.user()).ok()


def test_silent_when_the_daemon_is_gone(realm, home, client, locator):
    kinit(client, realm.user()).ok()
    locator.end()
    assert locator.file.exists()
    kinit(client, realm.user()).refused(UNKNOWN)
    kinit(LocatedClient(realm, home, realm.krb5_conf(), locator), realm.user()).ok()
    locator.file.unlink()
    kinit(client, realm.user()).refused(UNKNOWN)


def test_silent_when_nothing_was_ever_there(realm, client, locator):
    locator.end()
    locator.file.unlink()
    kinit(client, realm.user()).refused(UNKNOWN)


@pytest.fixture
def silent_port():
    """A port that takes everything and answers nothing; libkrb5 waits for it."""
    port = free_port()
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(('127.0.0.1', port))
        tcp.listen(1)
        udp.bind(('127.0.0.1', port))
        yield port


def test_a_realm_without_a_way_fails_at_once(realm, home, locator, silent_port):
    conf = conf_without_kdc(home)
    conf.write_text(conf.read_text() + f'[realms]\n    {REALM} = {{\n        kdc = 127.0.0.1:{silent_port}\n    }}\n')
    client, who = LocatedClient(realm, home, conf, locator), realm.user()
    bare = []                   # what the private root and a kinit that asks nobody cost
    for _ in range(3):
        began = time.monotonic()
        client.run('kinit', '-V', '-R').refused('No credentials cache|Matching credential')
        bare.append(time.monotonic() - began)
    until = boot_us() + 30_000_000
    locator.write(whole(entry(REALM, doors_of(realm), no_way_until=until)))
    took = []
    for _ in range(3):
        began = time.monotonic()
        text = kinit(client, who).refused('No way to a KDC of realm')
        took.append(time.monotonic() - began)
        assert 'sallyport status' in text and REALM in text
    print(f'no way: {min(took) * 1000:.0f} ms, {min(bare) * 1000:.0f} of them for a kinit that asks nobody')
    assert min(took) < 0.3 and 'Sending initial' not in client.traced()


def test_old_knowledge_of_no_way_is_not_believed(realm, client, locator):
    who = realm.user()
    locator.write(whole(entry(REALM, doors_of(realm), no_way_until=boot_us() + 2_000_000)))
    kinit(client, who).refused('No way to a KDC of realm')
    time.sleep(2.1)
    kinit(client, who).ok()


@pytest.mark.parametrize('spoil', ['owner', 'group-writable', 'world-writable', 'truncated', 'empty', 'garbage', 'larger',
                                   'not-loopback', 'link', 'fifo', 'directory'])
def test_a_file_that_is_not_the_daemons_is_ignored(realm, client, locator, spoil):
    good = locator.file.read_bytes()
    if spoil == 'owner':
        os.chown(locator.file, NOBODY_ELSE, -1)
    elif spoil == 'group-writable':
        locator.file.chmod(0o664)
    elif spoil == 'world-writable':
        locator.file.chmod(0o646)
    elif spoil == 'truncated':
        os.truncate(locator.file, len(good) - 1)
    elif spoil == 'empty':
        os.truncate(locator.file, 0)
    elif spoil == 'garbage':
        locator.write(os.urandom(len(good)))
    elif spoil == 'larger':
        locator.write(good + b'\0' * 300_000)
    elif spoil == 'not-loopback':
        locator.write(whole(entry(REALM, [door(KDC, UDP, 88, '192.0.2.1')])))
    elif spoil == 'link':
        locator.file.rename(locator.dir / 'other')
        locator.file.symlink_to('other')
    elif spoil == 'fifo':
        locator.file.unlink()
        os.mkfifo(locator.file, 0o644)
    elif spoil == 'directory':
        locator.dir.chmod(0o777)
    kinit(client, realm.user()).refused(UNKNOWN)


def test_the_owner_of_the_directory_is_believed(realm, client, locator):
    """systemd makes run/sallyport for the user that the daemon runs as."""
    os.chown(locator.dir, NOBODY_ELSE, -1)
    kinit(client, realm.user()).ok()
    os.chown(locator.file, NOBODY_ELSE, -1)
    kinit(client, realm.user()).ok()


@pytest.fixture(scope='module')
def program(place):
    made = place / 'locate_peer'
    run(['gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', made, HERE / 'locate_peer.c', '-lkrb5', '-lpthread', '-ldl']).ok()
    return made


def test_eight_threads(realm, client, program):
    who = realm.user()
    assert '80 logins' in client.run(program, 'threads', 8, 10, who, PASSWORD, KRB5_TRACE='').ok()


def test_a_look_up_takes_microseconds(realm, client, locator, program):
    plugin = locator.place / 'sallyport_locate.so'
    said = {}
    for what, content in (('1 realm', whole(entry(REALM, doors_of(realm)))),
                          ('100 realms', whole(*[entry(f'R{i}.EXAMPLE', doors_of(realm)) for i in range(99)],
                                               entry(REALM, doors_of(realm))))):
        locator.write(content)
        said[what] = client.run(program, 'measure', plugin, REALM, 100_000).ok()
        assert 'doors=2' in said[what]
    locator.end()
    said['no daemon'] = client.run(program, 'measure', plugin, REALM, 100_000).ok()
    assert 'doors=0' in said['no daemon']
    print(said)
    for text in said.values():
        assert int(re.search(r'median_ns=(\d+)', text)[1]) < 200_000


@pytest.mark.parametrize('mode', [0o755, 0o4755], ids=['ordinary', 'set-uid'])
def test_any_user_and_set_uid_programs(realm, client, locator, program, mode):
    mine = program.with_name(f'locate_peer-{mode:o}')
    shutil.copy(program, mine)
    mine.chmod(mode)
    text = client.run('setpriv', '--reuid', 65534, '--clear-groups', '--', mine, 'measure', locator.place / 'sallyport_locate.so',
                      REALM, 100).ok()
    assert 'doors=2' in text, text
