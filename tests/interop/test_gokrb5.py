# SPDX-License-Identifier: MIT
"""gokrb5, built from Debian's source package."""
import os
import pathlib
import shutil

import pytest

from harness import Client, HOST, PASSWORD, REALM, WRONG_PASSWORD, need_peer, peer, run

SERVICE = f'host/{HOST}'


@pytest.fixture(scope='module')
def program(place):
    """Compiled once; Go's cache of the standard library lives beside the peers."""
    need_peer('go')
    source = place / 'login.go'
    shutil.copy(pathlib.Path(__file__).with_name('login.go'), source)
    cache = pathlib.Path(os.environ.get('SALLYPORT_PEERS', '/var/cache/sallyport-peers')) / 'go-cache'
    env = dict(os.environ, GO111MODULE='off', GOPATH='/usr/share/gocode', GOCACHE=str(cache), GOFLAGS='', HOME=str(place),
               CGO_ENABLED='0')
    run(peer('go', 'go', 'build', '-o', place / 'login-go', source), env=env, timeout=300).ok()
    return place / 'login-go'


def go(realm, home, program, *argv, **libdefaults):
    client = Client(realm, 'go', home, realm.krb5_conf('go', **libdefaults))
    return run([program, client.conf, *argv, SERVICE, realm.host_keytab], env=client.env)


@pytest.mark.parametrize('libdefaults', [{}, {'udp_preference_limit': 1}, {'canonicalize': 'true'}],
                         ids=['udp', 'tcp', 'canonicalize'])
def test_login_by_password(realm, home, program, libdefaults):
    name = realm.user()
    text = go(realm, home, program, 'password', name, PASSWORD, **libdefaults).ok()
    assert f'ticket for {SERVICE} of {name}' in text


def test_login_by_keytab(realm, home, program):
    text = go(realm, home, program, 'keytab', SERVICE, realm.host_keytab).ok()
    assert f'ticket for {SERVICE} of {SERVICE}' in text


@pytest.mark.parametrize('etype', ['aes128-cts-hmac-sha1-96', 'aes256-cts-hmac-sha384-192', 'aes128-cts-hmac-sha256-128'])
def test_each_encryption_type(realm, home, program, etype):
    go(realm, home, program, 'password', realm.user(), PASSWORD, default_tkt_enctypes=etype, default_tgs_enctypes=etype).ok()


def test_wrong_password(realm, home, program):
    go(realm, home, program, 'password', realm.user(), WRONG_PASSWORD).refused('KDC_ERR_PREAUTH_FAILED')
