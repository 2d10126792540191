# SPDX-License-Identifier: MIT
"""Stock Heimdal kinit, klist, kgetcred, kpasswd."""
import re

import pytest

from harness import Client, HOST, OTHER_PASSWORD, PASSWORD, REALM, WRONG_PASSWORD

HOST_SERVICE = f'host/{HOST}'


def kinit(client, name, *options, password=PASSWORD):
    return client.run('kinit', '--password-file=STDIN', *options, name, stdin=password + '\n')


def test_login_and_service_ticket(realm, heimdal):
    name = realm.user()
    kinit(heimdal, name).ok()
    text = heimdal.klist().ok()
    assert f'Principal: {name}@{REALM}' in text and f'krbtgt/{REALM}@{REALM}' in text
    heimdal.run('kgetcred', HOST_SERVICE).ok()
    assert HOST_SERVICE in heimdal.klist().ok()


def test_login_over_tcp_only(realm, home, heimdal):
    client = Client(realm, 'heimdal', home, realm.krb5_conf('heimdal-tcp'))
    kinit(client, realm.user()).ok()
    client.run('kgetcred', HOST_SERVICE).ok()


@pytest.mark.parametrize('etype', ['aes256-cts-hmac-sha1-96', 'aes128-cts-hmac-sha1-96', 'aes256-cts-hmac-sha384-192',
                                   'aes128-cts-hmac-sha256-128'])
def test_each_encryption_type(realm, home, heimdal, etype):
    client = Client(realm, 'heimdal', home, realm.krb5_conf('heimdal', default_as_etypes=etype,
                                                            default_tgs_etypes=etype))
    kinit(client, realm.user()).ok()
    client.run('kgetcred', HOST_SERVICE).ok()
    text = client.klist('-v').ok()
    for ticket in text.split('Server: ')[1:]:
        m = re.search(r'(?:Session key|Ticket etype): .*', ticket)
        shown = re.search(r'Session key: ([\w-]+)', ticket) or re.search(r'Ticket etype: ([\w-]+)', ticket)
        assert m and shown[1] == etype, text


def test_wrong_password_says_so(realm, heimdal):
    kinit(heimdal, realm.user(), password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    assert not heimdal.cache.exists()


def test_unknown_user_looks_like_a_wrong_password(realm, heimdal):
    realm.need('hidden-users')
    known = realm.user()
    text = kinit(heimdal, known, password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    unknown = kinit(heimdal, 'nobody98', password=WRONG_PASSWORD).refused('Password incorrect|Preauthentication failed')
    assert unknown.replace('nobody98', known) == text


def test_canonicalize_and_enterprise(realm, heimdal):
    realm.need('enterprise')
    name = realm.user()
    kinit(heimdal, name, '--canonicalize').ok()
    kinit(heimdal, f'{name}@{REALM}', '--enterprise', '--canonicalize').ok()
    heimdal.run('kgetcred', HOST_SERVICE).ok()


def test_printed_client_configuration(realm, heimdal):
    realm.need('client-config')
    heimdal.conf.write_text(realm.client_config('heimdal'))
    kinit(heimdal, realm.user()).ok()
    heimdal.run('kgetcred', HOST_SERVICE).ok()


def test_renewing_where_policy_allows_it(generous, home):
    client = Client(generous, 'heimdal', home, generous.krb5_conf('heimdal'))
    kinit(client, generous.user(), '--renewable', '--forwardable').ok()
    client.run('kinit', '-R').ok()
    client.run('kgetcred', HOST_SERVICE).ok()


def test_service_logs_in_with_its_keytab(realm, heimdal):
    heimdal.run('kinit', '-k', '-t', realm.host_keytab, HOST_SERVICE).ok()
    heimdal.run('kgetcred', HOST_SERVICE).ok()
    listed = heimdal.run('ktutil', '-k', realm.host_keytab, 'list').ok()
    assert f'{HOST_SERVICE}@{REALM}' in listed


def test_service_ticket_straight_from_the_as_exchange(realm, heimdal):
    kinit(heimdal, realm.user(), '-S', HOST_SERVICE).ok()
    text = heimdal.klist().ok()
    assert HOST_SERVICE in text and 'krbtgt' not in text


def test_unknown_service(realm, heimdal):
    kinit(heimdal, realm.user()).ok()
    heimdal.run('kgetcred', 'host/elsewhere.test').refused('not found|unknown|UNKNOWN|LOOKING_UP_SERVER')


def test_password_change(realm, heimdal):
    name = realm.user()
    text = heimdal.converse(['kpasswd', f'{name}@{REALM}'],
                            [(r'Password: ', PASSWORD), (r'New password.*: ', OTHER_PASSWORD),
                             (r'(?:Verify|Repeat).*: ', OTHER_PASSWORD)]).ok()
    assert re.search(r'Success|changed', text, re.I), text
    kinit(heimdal, name).refused('Password incorrect|Preauthentication failed')
    kinit(heimdal, name, password=OTHER_PASSWORD).ok()


def test_must_change_password_is_changed_by_kinit(realm, heimdal):
    """Heimdal 7.8 changes it and then still reports the first error: what counts is the new password."""
    name = realm.must_change()
    text = heimdal.converse(['kinit', name], [(r'Password: ', PASSWORD), (r'New password: ', OTHER_PASSWORD),
                                              (r'Repeat new password: ', OTHER_PASSWORD)]).text
    assert 'Success' in text, text
    kinit(heimdal, name).refused('Password incorrect|Preauthentication failed')
    kinit(heimdal, name, password=OTHER_PASSWORD).ok()
