# SPDX-License-Identifier: MIT
"""Stock MIT kinit, klist, kvno, kpasswd."""
import json
import os
import re
import stat
import time

import pytest

from harness import Client, HOST, OTHER_PASSWORD, PASSWORD, REALM, WRONG_PASSWORD

HOST_SERVICE = f'host/{HOST}'
ETYPES = ['aes256-cts-hmac-sha1-96', 'aes128-cts-hmac-sha1-96', 'aes256-cts-hmac-sha384-192',
          'aes128-cts-hmac-sha256-128']


def kinit(client, name, *options, password=PASSWORD):
    return client.run('kinit', *options, name, stdin=password + '\n')


def flags(client, service):
    """The letters klist -f shows for the ticket of this service."""
    text = client.klist('-f').ok()
    m = re.search(re.escape(service) + r'@\S*\n(?:\s+.*\n)*?.*Flags: (\w*)', text)
    assert m, text
    return m[1]


def test_login_and_service_ticket(realm, mit):
    name = realm.user()
    kinit(mit, name).ok()
    text = mit.klist().ok()
    assert f'Default principal: {name}@{REALM}' in text
    assert f'krbtgt/{REALM}@{REALM}' in text
    assert re.search(r'host/nas1.test@TEST: kvno = \d+', mit.run('kvno', HOST_SERVICE).ok())
    assert f'{HOST_SERVICE}@{REALM}' in mit.klist().ok()


def test_login_over_tcp_only(realm, home, mit):
    client = Client(realm, 'mit', home, realm.krb5_conf(udp_preference_limit=1))
    kinit(client, realm.user()).ok()
    client.run('kvno', HOST_SERVICE).ok()
    assert 'stream 127.0.0.1' in client.traced() and 'dgram 127.0.0.1' not in client.traced()


def test_keytab_opens_the_service_ticket(realm, mit):
    kinit(mit, realm.user()).ok()
    text = mit.run('kvno', '-k', realm.host_keytab, HOST_SERVICE).ok()
    assert 'keytab entry valid' in text, text


def test_wrong_password_says_so(realm, mit):
    kinit(mit, realm.user(), password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    assert not mit.cache.exists()


def test_unknown_user_looks_like_a_wrong_password(realm, mit):
    realm.need('hidden-users')
    known = realm.user()
    text = kinit(mit, known, password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    unknown = kinit(mit, 'nobody99', password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    assert unknown.replace('nobody99', known) == text
    asked = re.findall(r'Processing preauth types: .*', mit.traced())
    assert len(asked) == 2 and asked[0] == asked[1]


@pytest.mark.parametrize('etype', ETYPES)
def test_each_encryption_type(realm, home, mit, etype):
    client = Client(realm, 'mit', home, realm.krb5_conf(default_tkt_enctypes=etype, default_tgs_enctypes=etype))
    kinit(client, realm.user()).ok()
    client.run('kvno', HOST_SERVICE).ok()
    shown = re.findall(r'Etype \(skey, tkt\): ([\w-]+), ([\w-]+)', client.klist('-e').ok())
    assert [skey for skey, _ in shown] == [etype, etype]
    assert f'Selected etype info: etype {client_name(etype)}' in client.traced()


def client_name(etype):
    """libkrb5's trace writes the short alias."""
    return {'aes256-cts-hmac-sha1-96': 'aes256-cts', 'aes128-cts-hmac-sha1-96': 'aes128-cts',
            'aes256-cts-hmac-sha384-192': 'aes256-sha2', 'aes128-cts-hmac-sha256-128': 'aes128-sha2'}[etype]


def test_only_weak_types_are_refused(realm, home, mit):
    client = Client(realm, 'mit', home, realm.krb5_conf(default_tkt_enctypes='rc4-hmac', allow_weak_crypto='true',
                                                        allow_rc4='true'))
    kinit(client, realm.user()).refused('KDC has no support for encryption type')


def test_servers_order_of_preference(realm, mit):
    realm.need('policy')
    kinit(mit, realm.user()).ok()
    assert re.search(r'Etype \(skey, tkt\): aes256-cts-hmac-sha1-96, aes256-cts-hmac-sha1-96', mit.klist('-e').ok())


def test_enterprise_name(realm, mit):
    realm.need('enterprise')
    name = realm.user()
    kinit(mit, f'{name}@{REALM}', '-E').ok()
    mit.run('kvno', HOST_SERVICE).ok()


def test_canonicalized_enterprise_name(realm, mit):
    realm.need('enterprise')
    name = realm.user()
    kinit(mit, f'{name}@{REALM}', '-E', '-C').ok()
    assert f'Default principal: {name}@{REALM}' in mit.klist().ok()


def test_canonicalize_flag(realm, mit):
    name = realm.user()
    kinit(mit, name, '-C').ok()
    assert f'Default principal: {name}@{REALM}' in mit.klist().ok()
    mit.run('kvno', HOST_SERVICE).ok()


def test_account_alias(realm, mit):
    realm.need('alias')
    name = realm.user('--alias', 'nickname')
    kinit(mit, 'nickname').ok()
    assert f'Default principal: nickname@{REALM}' in mit.klist().ok()
    mit.run('kvno', HOST_SERVICE).ok()
    kinit(mit, 'nickname', '-C').ok()
    assert f'Default principal: {name}@{REALM}' in mit.klist().ok()


def test_service_logs_in_with_its_keytab(realm, mit):
    mit.run('kinit', '-k', '-t', realm.host_keytab, HOST_SERVICE).ok()
    assert f'Default principal: {HOST_SERVICE}@{REALM}' in mit.klist().ok()
    mit.run('kvno', HOST_SERVICE).ok()


def test_keytab_is_private_and_complete(realm, home, mit):
    file = home / 'again.keytab'
    realm.keytab(HOST_SERVICE, file)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    text = mit.run('klist', '-k', '-e', file).ok()
    for etype in ETYPES:
        assert re.search(rf'{HOST_SERVICE}@{REALM} \({etype}\)', text), text


def test_service_ticket_straight_from_the_as_exchange(realm, mit):
    kinit(mit, realm.user(), '-S', HOST_SERVICE).ok()
    text = mit.klist().ok()
    assert f'{HOST_SERVICE}@{REALM}' in text and 'krbtgt' not in text


def test_service_by_address_and_alias(realm, mit, home):
    realm.service_add('cifs/files.test', '127.0.0.1', 'cifs/store')
    kinit(mit, realm.user()).ok()
    for service in 'cifs/files.test', 'cifs/127.0.0.1', 'cifs/store':
        mit.run('kvno', service).ok()
        assert f'{service}@{REALM}' in mit.klist().ok()


def test_keytab_holds_every_alias(realm, mit, home):
    realm.need('alias')
    realm.service_add('HTTP/web.test', '127.0.0.9')
    realm.keytab('HTTP/web.test', home / 'web.keytab')
    kinit(mit, realm.user()).ok()
    for service in 'HTTP/web.test', 'HTTP/web', 'HTTP/127.0.0.9':
        assert 'keytab entry valid' in mit.run('kvno', '-k', home / 'web.keytab', service).ok()


def test_unknown_service(realm, mit):
    kinit(mit, realm.user()).ok()
    mit.run('kvno', 'host/elsewhere.test').refused('Server .*not found in Kerberos database')


def test_password_change(realm, mit):
    name = realm.user()
    kinit(mit, name).ok()
    mit.converse(['kpasswd', name], [(r'Password for .*: ', PASSWORD), (r'Enter new password: ', OTHER_PASSWORD),
                                     (r'Enter it again: ', OTHER_PASSWORD)]).ok()
    kinit(mit, name).refused('Password incorrect|Preauthentication failed')
    kinit(mit, name, password=OTHER_PASSWORD).ok()
    mit.run('kvno', HOST_SERVICE).ok()


def test_password_change_ends_old_tgts(realm, mit):
    realm.need('revoked-tgt')
    name = realm.user()
    kinit(mit, name).ok()
    old = mit.cache.read_bytes()
    mit.converse(['kpasswd', name], [(r'Password for .*: ', PASSWORD), (r'Enter new password: ', OTHER_PASSWORD),
                                     (r'Enter it again: ', OTHER_PASSWORD)]).ok()
    mit.cache.write_bytes(old)
    mit.run('kvno', HOST_SERVICE).refused('TGT has been revoked')


def test_policy_text_reaches_the_user(realm, mit):
    realm.need('policy')
    name = realm.user()
    text = mit.converse(['kpasswd', name], [(r'Password for .*: ', PASSWORD), (r'Enter new password: ', 'short'),
                                            (r'Enter it again: ', 'short')]).refused('Password change rejected')
    assert '12' in text, 'the least length is named'
    kinit(mit, name).ok()


def test_must_change_password_is_changed_by_kinit_itself(realm, mit):
    name = realm.must_change()
    text = mit.converse(['kinit', name], [(r'Password for .*: ', PASSWORD), (r'Enter new password: ', OTHER_PASSWORD),
                                          (r'Enter it again: ', OTHER_PASSWORD)]).ok()
    assert 'Password expired' in text
    mit.run('kvno', HOST_SERVICE).ok()
    kinit(mit, name, password=OTHER_PASSWORD).ok()


def test_must_change_is_not_told_without_the_password(realm, mit):
    kinit(mit, realm.must_change(), password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')


def test_must_change_still_changes_with_kpasswd_only(realm, mit):
    name = realm.must_change()
    kinit(mit, name, '-S', HOST_SERVICE).refused('Password has expired|Cannot read password|Password expired')
    kinit(mit, name, '-S', 'kadmin/changepw').ok()


def test_disabled_account(realm, mit):
    name = realm.user()
    kinit(mit, name).ok()
    realm.disable(name)
    kinit(mit, name).refused('credentials have been revoked')


def test_expired_account(realm, mit):
    kinit(mit, realm.expired_user()).refused("Client's entry in database has expired")


def test_expired_is_told_only_after_proof(realm, mit):
    realm.need('late-state')
    kinit(mit, realm.expired_user(), password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')


def test_printed_client_configuration(realm, mit):
    realm.need('client-config')
    mit.conf.write_text(realm.client_config('mit'))
    name = realm.user()
    kinit(mit, name).ok()
    mit.run('kvno', HOST_SERVICE).ok()


def test_disabled_is_told_only_after_proof(realm, mit):
    realm.need('late-state')
    name = realm.user()
    kinit(mit, name).ok()
    realm.disable(name)
    kinit(mit, name, password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    mit.run('kvno', HOST_SERVICE).refused('credentials have been revoked')


def test_renewable_and_forwardable_are_left_off_by_policy(realm, mit):
    realm.need('policy')
    kinit(mit, realm.user(), '-f', '-r', '7d').ok()
    letters = flags(mit, f'krbtgt/{REALM}')
    assert 'R' not in letters and 'F' not in letters and 'I' in letters and 'A' in letters, letters
    mit.run('kinit', '-R').refused("KDC can't fulfill requested option")


def test_renewing_where_policy_allows_it(generous, home):
    client = Client(generous, 'mit', home, generous.krb5_conf())
    kinit(client, generous.user(), '-f', '-r', '2d').ok()
    letters = flags(client, f'krbtgt/{REALM}')
    assert 'R' in letters and 'F' in letters and 'I' in letters, letters
    until = re.search(r'renew until (.*?)(?:,|\n|$)', client.klist().ok())[1]
    client.run('kinit', '-R').ok()
    again = flags(client, f'krbtgt/{REALM}')
    assert 'R' in again and 'F' in again and set(again) - {'T'} <= set(letters), 'flags never grow'
    assert f'renew until {until}' in client.klist().ok(), 'renewing never moves the last end'
    client.run('kvno', HOST_SERVICE).ok()


def test_proxiable_is_granted(realm, mit):
    kinit(mit, realm.user(), '-p').ok()
    assert 'P' in flags(mit, f'krbtgt/{REALM}')


def test_lifetimes_are_clamped_not_refused(realm, mit):
    kinit(mit, realm.user(), '-l', '300d').ok()
    kinit(mit, realm.user(), '-l', '5m').ok()


def test_postdated_request_is_refused(realm, mit):
    realm.need('policy')
    kinit(mit, realm.user(), '-s', '1h').refused('Ticket not eligible|not eligible for postdating|fulfill requested option')


def test_foreign_realm_is_refused(realm, mit):
    kinit(mit, f'{realm.user()}@TEST').ok()
    mit.run('kvno', f'{HOST_SERVICE}@ELSEWHERE').refused('not found|Cannot find KDC')


def test_records_tell_without_secrets(realm, mit):
    realm.need('records')
    name = realm.user()
    kinit(mit, name, password=WRONG_PASSWORD).refused('')
    kinit(mit, name).ok()
    mine, end = [], time.monotonic() + 10
    while len({row.get('code') for row in mine} & {0, 24}) < 2 and time.monotonic() < end:     # written in batches
        time.sleep(0.1)
        text = realm.records().read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        mine = [row for row in rows if str(row.get('client', '')).startswith(f'{name}@')]
    assert {row.get('code') for row in mine} >= {0, 24}, mine
    for key in 'ts', 'event', 'door', 'source', 'client', 'service', 'code':
        assert all(key in row for row in mine), key
    assert PASSWORD not in text and WRONG_PASSWORD not in text
