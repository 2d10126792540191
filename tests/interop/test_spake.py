# SPDX-License-Identifier: MIT
"""Stock MIT kinit logs in by SPAKE (RFC 9588); peers that have none go on with a timestamp."""
import json
import pathlib
import re
import signal
import time

import pytest

from harness import Client, PASSWORD, REALM, SALLYPORT, SallyportRealm, WRONG_PASSWORD, need_peer, run

FAKETIME = next(iter(sorted(pathlib.Path('/usr/lib').glob('*/faketime/libfaketime.so.1'))), None)
DENIED = 'Password incorrect|Preauthentication failed'


def kinit(client, name, *options, password=PASSWORD, program=('kinit',)):
    return client.run(*program, *options, name, stdin=password + '\n')


def records(realm, name, count):
    """What the KDC wrote about this client's AS requests: (code, proof) of each."""
    realm.need('records')
    for _ in range(50):
        lines = [json.loads(line) for line in realm.records().read_text().splitlines()]
        found = [(r['code'], r['preauth']) for r in lines if r['event'] == 'as' and r['client'] == f'{name}@{REALM}']
        if len(found) >= count:
            break
        time.sleep(0.1)
    return found


def by_spake(client):
    said = client.traced()
    return 'SPAKE challenge received' in said and 'SPAKE final transcript hash' in said


@pytest.mark.parametrize('transport, limit', [('dgram', 10000), ('stream', 1)])
def test_login_takes_two_legs(realm, home, transport, limit):
    client = Client(realm, 'mit', home, realm.krb5_conf(udp_preference_limit=limit))
    name = realm.user()
    kinit(client, name).ok()
    assert by_spake(client), client.traced()
    assert f'{transport} 127.0.0.1' in client.traced()
    assert 'Encrypted timestamp' not in client.traced()
    assert records(realm, name, 2) == [(25, 'none'), (0, 'spake')]
    client.run('kvno', 'host/nas1.test').ok()


@pytest.mark.parametrize('etype', ['aes256-cts-hmac-sha1-96', 'aes128-cts-hmac-sha1-96', 'aes256-cts-hmac-sha384-192',
                                   'aes128-cts-hmac-sha256-128'])
def test_each_encryption_type(realm, home, etype):
    client = Client(realm, 'mit', home, realm.krb5_conf(default_tkt_enctypes=etype))
    name = realm.user()
    kinit(client, name).ok()
    assert by_spake(client), client.traced()
    assert records(realm, name, 2)[-1] == (0, 'spake')


def test_p256_costs_one_leg_more(realm, home):
    client = Client(realm, 'mit', home, realm.krb5_conf(spake_preauth_groups='P-256'))
    name = realm.user()
    kinit(client, name).ok()
    assert 'SPAKE challenge with group 1 rejected' in client.traced(), client.traced()
    assert 'SPAKE challenge received with group 2' in client.traced(), client.traced()
    assert records(realm, name, 3) == [(25, 'none'), (91, 'none'), (0, 'spake')]


def test_wrong_password_is_one_try(realm, mit):
    name = realm.user()
    kinit(mit, name, password=WRONG_PASSWORD).refused(DENIED)
    assert by_spake(mit) and not mit.cache.exists()
    time.sleep(0.5)
    assert records(realm, name, 2) == [(25, 'none'), (24, 'spake')]


def test_unknown_user_looks_the_same(realm, mit):
    known = realm.user()
    text = kinit(mit, known, password=WRONG_PASSWORD).refused(DENIED)
    mit.trace.unlink()
    assert kinit(mit, 'nobody151', password=WRONG_PASSWORD).refused(DENIED).replace('nobody151', known) == text
    assert by_spake(mit)
    assert records(realm, 'nobody151', 2) == [(25, 'none'), (24, 'spake')]


def test_service_with_its_keytab(realm, mit):
    mit.run('kinit', '-k', '-t', realm.host_keytab, 'host/nas1.test').ok()
    assert by_spake(mit), mit.traced()


def test_canonicalized_name(realm, mit):
    name = realm.user('--alias', 'spakenick')
    kinit(mit, 'spakenick', '-C').ok()
    assert by_spake(mit)
    assert f'Default principal: {name}@{REALM}' in mit.klist().ok()


def test_expired_password_is_changed_on_the_way(realm, mit):
    name = realm.must_change()
    mit.converse(['kinit', name], [('Password for .*: ', PASSWORD), ('Enter new password: ', 'Quiet-Lantern-97'),
                                   ('Enter it again: ', 'Quiet-Lantern-97')]).ok()
    assert by_spake(mit)


# A client that is behind asks for a ticket that ends in our past unless its lifetime is longer than that.
@pytest.mark.parametrize('off, options', [('+1d', ()), ('-1d', ('-l', '3d')), ('+301s', ()), ('-301s', ()),
                                          ('+3650d', ())])
@pytest.mark.parametrize('timesync', ['0', '1'])
def test_any_clock(realm, home, off, options, timesync):
    """T040. Without kdc_timesync the client itself refuses a reply whose times are far from its own clock."""
    assert FAKETIME, 'the package faketime is not installed'
    client = Client(realm, 'mit', home, realm.krb5_conf(kdc_timesync=timesync))
    name = realm.user()
    done = kinit(client, name, *options, program=('env', f'LD_PRELOAD={FAKETIME}', f'FAKETIME={off}', 'kinit'))
    assert records(realm, name, 2) == [(25, 'none'), (0, 'spake')]
    assert by_spake(client)
    if timesync == '1':
        done.ok()
        assert f'Default principal: {name}@{REALM}' in client.klist().ok()
    else:
        done.refused('Clock skew too great in KDC reply')


def test_heimdal_goes_on_with_a_timestamp(realm, heimdal):
    name = realm.user()
    file = heimdal.dir / 'password'
    file.write_text(PASSWORD + '\n')
    heimdal.run('kinit', f'--password-file={file}', name).ok()
    assert records(realm, name, 2)[-1] == (0, 'timestamp')


def test_status_says_what_is_taken(realm):
    shown = json.loads(realm.command('status', '--json').ok())
    assert shown['spake'] is True and shown['timestamp'] is True
    assert re.search(r'spake-challenge\s+always', realm.command('config', 'show').ok())


def test_switches(place):
    """What is switched off is neither offered nor taken; a realm that takes nothing says so."""
    dir = place / 'switches'
    dir.mkdir()
    root = dir / 'root'
    run([SALLYPORT, 'init', '--realm', REALM, '--root', root]).ok()
    conf = root / 'etc/sallyport/conf.d'
    conf.mkdir(parents=True, exist_ok=True)
    for spake, timestamp in ('no', 'yes'), ('yes', 'no'), ('no', 'no'):
        (conf / 'x.conf').write_text(f'[kdc]\nspake = {spake}\ntimestamp = {timestamp}\nspake-challenge = on-support\n')
        shown = json.loads(run([SALLYPORT, 'status', '--json', '--root', root]).ok())
        assert (shown['spake'], shown['timestamp']) == (spake == 'yes', timestamp == 'yes')
        assert any('nobody can log in' in w for w in shown['warnings']) == (spake == timestamp == 'no')
    (conf / 'x.conf').write_text('[kdc]\nspake-challenge = never\n')
    run([SALLYPORT, 'config', 'check', '--root', root]).refused(r'"never" is not one of always\|on-support')


def test_peers_without_timestamps(place):
    """A realm that takes SPAKE alone, and challenges only who asks: MIT logs in with three legs, Heimdal does not."""
    need_peer('mit')
    need_peer('heimdal')
    dir = place / 'spake-only'
    dir.mkdir()
    dir.chmod(0o755)
    it = SallyportRealm(dir)
    try:
        (it.root / 'etc/sallyport/conf.d/spake.conf').write_text('[kdc]\ntimestamp = no\nspake-challenge = on-support\n')
        it.server.process.send_signal(signal.SIGHUP)
        name = it.user()
        client = Client(it, 'mit', dir, it.krb5_conf())
        for _ in range(50):         # until the workers have read it
            kinit(client, name).ok()
            if records(it, name, 2)[-3:] == [(25, 'none'), (91, 'none'), (0, 'spake')]:
                break
            time.sleep(0.1)
        assert records(it, name, 3)[-3:] == [(25, 'none'), (91, 'none'), (0, 'spake')]
        file = dir / 'password'
        file.write_text(PASSWORD + '\n')
        Client(it, 'heimdal', dir, it.krb5_conf('heimdal')).run('kinit', f'--password-file={file}', name).refused('')
    finally:
        it.close()
