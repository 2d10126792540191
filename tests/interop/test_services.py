# SPDX-License-Identifier: MIT
"""Stock servers that accept this realm's tickets: smbd and Apache with mod_auth_gssapi, on private ports."""
import pytest

import harness
from harness import Client, HOST, PASSWORD, REALM, WRONG_PASSWORD, Server, curl, free_port, need_peer, peer


def smb_server(dir, realm, interfaces='lo'):
    """Stock smbd with one file to read."""
    need_peer('mit')
    for part in 'private', 'lock', 'state', 'cache', 'pid', 'share', 'ncalrpc':
        (dir / part).mkdir(parents=True)
    (dir / 'share' / 'hello.txt').write_text('through the small gate\n')
    realm.service_add(f'cifs/{HOST}')
    realm.keytab(f'cifs/{HOST}', dir / 'cifs.keytab')
    (dir / 'users').write_text('!root = *\n')
    port = free_port()
    (dir / 'smb.conf').write_text(f'''[global]
    workgroup = WORKGROUP
    realm = {REALM}
    server role = standalone server
    security = user
    kerberos method = dedicated keytab
    dedicated keytab file = {dir}/cifs.keytab
    username map = {dir}/users
    private dir = {dir}/private
    lock directory = {dir}/lock
    state directory = {dir}/state
    cache directory = {dir}/cache
    pid directory = {dir}/pid
    ncalrpc dir = {dir}/ncalrpc
    log file = {dir}/log
    interfaces = {interfaces}
    bind interfaces only = yes
    smb ports = {port}
    load printers = no
    printing = bsd
    disable spoolss = yes
    server min protocol = SMB2
    ntlm auth = disabled
[files]
    path = {dir}/share
    read only = yes
''')
    server = Server(peer('mit', 'smbd', '--foreground', '--no-process-group', '-s', dir / 'smb.conf', '--debug-stdout',
                         '-d', '1'), dir / 'smbd.log', port)
    server.port, server.dir = port, dir
    return server


@pytest.fixture(scope='module')
def smbd(realm, place):
    server = smb_server(place / 'smbd', realm)
    yield server
    server.stop()


def smb_client(realm, home, server, address='127.0.0.1'):
    """smbclient with its own state; its built-in Heimdal keeps to TCP only when the KDC is written so."""
    client = Client(realm, 'mit', home, realm.krb5_conf('heimdal-tcp'))
    conf = home / 'smb.conf'
    conf.write_text(f'[global]\n    realm = {REALM}\n    workgroup = WORKGROUP\n    lock directory = {home}\n'
                    f'    state directory = {home}\n    cache directory = {home}\n    private dir = {home}\n')
    client.smb = lambda *argv, **env: client.run(
        'smbclient', '-s', conf, '-p', server.port, '-I', address, f'//{HOST}/files', '--use-kerberos=required',
        *argv, '-c', 'get hello.txt -', **env)
    return client


@pytest.fixture
def samba(realm, home, smbd):
    return smb_client(realm, home, smbd)


def test_smbclient_with_kinits_ticket(realm, home, samba):
    mit = Client(realm, 'mit', home, realm.krb5_conf())
    mit.run('kinit', realm.user(), stdin=PASSWORD + '\n').ok()
    text = samba.smb(f'--use-krb5-ccache={mit.cache}').ok()
    assert 'through the small gate' in text
    assert f'cifs/{HOST}@{REALM}' in mit.klist().ok()


def test_smbclient_logs_in_by_itself(realm, samba):
    text = samba.smb('-U', f'{realm.user()}@{REALM}%{PASSWORD}').ok()
    assert 'through the small gate' in text


def test_smbclient_with_a_wrong_password(realm, samba):
    text = samba.smb('-U', f'{realm.user()}@{REALM}%{WRONG_PASSWORD}').refused('NT_STATUS_LOGON_FAILURE',
                                                                             'NT_STATUS_ACCESS_DENIED')
    assert 'small gate' not in text


@pytest.fixture(scope='module')
def apache(realm, place):
    realm.service_add(f'HTTP/{HOST}')
    server = harness.apache(place / 'apache', realm)
    yield server
    server.stop()


def test_curl_negotiate(realm, mit, apache):
    name = realm.user()
    mit.run('kinit', name, stdin=PASSWORD + '\n').ok()
    text = curl(apache, mit.env).ok()
    assert '200 OK' in text and 'through the small gate' in text
    assert f'X-User: {name}@{REALM}' in text
    assert f'HTTP/{HOST}@{REALM}' in mit.klist().ok()


def test_curl_without_a_ticket(realm, mit, apache):
    text = curl(apache, mit.env).text
    assert '401 Unauthorized' in text and 'small gate' not in text
