# SPDX-License-Identifier: MIT
"""Java's Krb5LoginModule and JGSS, with the service's exported keytab."""
import pathlib

import pytest

from harness import Client, HOST, PASSWORD, REALM, WRONG_PASSWORD, need_peer

SERVICE = f'host/{HOST}@{REALM}'
SOURCE = pathlib.Path(__file__).with_name('Login.java')
JAVA = '/usr/lib/jvm/java-17-openjdk-amd64/bin/java'


def java(realm, home, name, password, *more, text=None, **libdefaults):
    need_peer('java')
    client = Client(realm, 'java', home, realm.krb5_conf('java', **libdefaults))
    if text:
        client.conf.write_text(text)
    return client.run(JAVA, f'-Djava.security.krb5.conf={client.conf}', '-Djavax.security.auth.useSubjectCredsOnly=true',
                      '-Xshare:auto', SOURCE, name, password, SERVICE, realm.host_keytab, *more)


@pytest.mark.parametrize('libdefaults', [{}, {'udp_preference_limit': 1},
                                         {'default_tkt_enctypes': 'aes128-cts-hmac-sha256-128'}], ids=['udp', 'tcp', 'sha2'])
def test_login_and_both_mechanisms(realm, home, libdefaults):
    name = realm.user()
    text = java(realm, home, name, PASSWORD, **libdefaults).ok()
    assert f'login {name}@{REALM}' in text
    assert f'context 1.2.840.113554.1.2.2 from {name}@{REALM} mutual true' in text
    assert f'context 1.3.6.1.5.5.2 from {name}@{REALM} mutual true' in text
    assert f'keytab login {SERVICE}' in text


def test_options_it_asks_for_and_does_not_get(realm, home):
    """Java compares the ticket's flags with what it asked; proxiable must be granted, forwardable may be left off."""
    java(realm, home, realm.user(), PASSWORD, proxiable='true', forwardable='true').ok()


def test_delegation_where_policy_allows_it(generous, home):
    name = generous.user()
    text = java(generous, home, name, PASSWORD, 'delegate', forwardable='true').ok()
    assert text.count(f'delegated {name}@{REALM}') == 2, text


def test_renewable_where_policy_allows_it(generous, home):
    java(generous, home, generous.user(), PASSWORD, renewable='true').ok()


def test_printed_client_configuration(realm, home):
    realm.need('client-config')
    java(realm, home, realm.user(), PASSWORD, text=realm.client_config('java')).ok()


def test_wrong_password(realm, home):
    text = java(realm, home, realm.user(), WRONG_PASSWORD).refused('Pre-authentication information was invalid',
                                                                    'Checksum failed')
    assert '(24)' in text
