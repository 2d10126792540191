# SPDX-License-Identifier: MIT
"""Our client engine (tests/client_login.c) against the stock KDCs of MIT and Heimdal, and against ours."""
import os

import pytest

from harness import BUILD, HOST, PASSWORD, REALM, WRONG_PASSWORD, MitRealm, Server, free_port, need_peer, peer, run

LOGIN = BUILD / 'tests/client_login'
HOST_SERVICE = f'host/{HOST}'
ETYPES = [17, 18, 19, 20]


class SpakeRealm(MitRealm):
    """MIT's KDC with the group that is off by default."""

    def krb5_conf(self, flavour='mit', **libdefaults):
        file = super().krb5_conf(flavour, spake_preauth_groups=self.group, **libdefaults)
        file.write_text(file.read_text() + f'[kdcdefaults]\n    spake_preauth_kdc_challenge = {self.group}\n')
        return file


class Edwards(SpakeRealm):
    group = 'edwards25519'


class P256(SpakeRealm):
    group = 'P-256'


class HeimdalRealm:
    """Heimdal's KDC over a database of its own."""

    def __init__(self, dir):
        need_peer('heimdal')
        self.dir, self.port, self.counter = dir, free_port(), 0
        self.conf = dir / 'krb5.conf'
        self.conf.write_text(f'''[libdefaults]
    default_realm = {REALM}
    dns_lookup_kdc = false
[realms]
    {REALM} = {{
        kdc = tcp/127.0.0.1:{self.port}
    }}
[kdc]
    database = {{
        dbname = {dir}/heimdal
        realm = {REALM}
        mkey_file = {dir}/mkey
        acl_file = /dev/null
        log_file = {dir}/db.log
    }}
    addresses = 127.0.0.1
    ports = {self.port}
    require-preauth = true
[logging]
    kdc = FILE:{dir}/kdc-heimdal.log
[kadmin]
    default_keys = aes256-cts-hmac-sha1-96:pw-salt aes128-cts-hmac-sha1-96:pw-salt aes256-cts-hmac-sha384-192:pw-salt aes128-cts-hmac-sha256-128:pw-salt
''')
        self.env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(self.conf))
        self.kadmin('init', '--realm-max-ticket-life=10h', '--realm-max-renewable-life=7d', REALM)
        self.server = Server(peer('heimdal', '/usr/lib/heimdal-servers/kdc', f'--config-file={self.conf}'),
                             dir / 'heimdal.log', self.port, self.env)

    def kadmin(self, *query):
        run(peer('heimdal', 'kadmin', '-l', f'--config-file={self.conf}', f'--realm={REALM}', *query), env=self.env).ok()

    def user(self):
        self.counter += 1
        self.kadmin('add', f'--password={PASSWORD}', '--use-defaults', f'user{self.counter}')
        return f'user{self.counter}'

    def service_add(self, name):
        self.kadmin('add', '--random-key', '--use-defaults', name)

    def close(self):
        self.server.stop()


def made(kind, dir, **options):
    dir.mkdir()
    dir.chmod(0o755)
    it = kind(dir, **options)
    it.service_add(HOST_SERVICE)
    return it


@pytest.fixture(scope='module')
def mit_kdc(place):
    it = made(MitRealm, place / 'client-mit', generous=True)
    yield it
    it.close()


@pytest.fixture(scope='module', params=[Edwards, P256])
def spake_kdc(request, place):
    it = made(request.param, place / f'client-{request.param.group}')
    yield it
    it.close()


@pytest.fixture(scope='module')
def heimdal_kdc(place):
    it = made(HeimdalRealm, place / 'client-heimdal')
    yield it
    it.close()


def login(kdc, name, *options, password=PASSWORD, service=HOST_SERVICE):
    return run([LOGIN, *options, '127.0.0.1', kdc.port, f'{name}@{REALM}', password, *([service] if service else [])])


def check(text, name, proof, rounds, service=HOST_SERVICE, tgt=True):
    assert f'proof: {proof}, rounds: {rounds}, offset: 0' in text, text
    assert (f'tgt: {name}@{REALM} krbtgt/{REALM}@{REALM} etype' in text) == tgt, text
    assert f'service: {name}@{REALM} {service}@{REALM} etype' in text, text


@pytest.mark.parametrize('etype', ETYPES)
def test_mit_timestamp(mit_kdc, etype):
    name = mit_kdc.user('+requires_preauth')
    check(login(mit_kdc, name, '-e', etype).ok(), name, 'timestamp', 3)


def test_mit_service_from_the_first_exchange(mit_kdc):
    name = mit_kdc.user('+requires_preauth')
    check(login(mit_kdc, name, '-b').ok(), name, 'timestamp', 2, tgt=False)


def test_mit_forwarded_and_renewed(mit_kdc):
    text = login(mit_kdc, mit_kdc.user('+requires_preauth'), '-r').ok()
    assert 'forwarded: ' in text and 'renewed: ' in text, text


def test_mit_without_preauthentication(mit_kdc):
    name = mit_kdc.user('-requires_preauth')
    text = login(mit_kdc, name, '-i', service=None).ok()     # its services want tickets that were pre-authenticated
    assert f'tgt: {name}@{REALM} krbtgt/{REALM}@{REALM}' in text and 'proof: none, rounds: 1' in text, text
    login(mit_kdc, name, '-i', password=WRONG_PASSWORD).refused('^refused 24: wrong password')


def test_mit_refusals(mit_kdc):
    name = mit_kdc.user('+requires_preauth')
    login(mit_kdc, name, '-i').refused("^refused 25: .*the line 'HOST allow-timestamp' in ~/.config/sallyport/pins")
    login(mit_kdc, name, password=WRONG_PASSWORD).refused('^refused 24: wrong password')
    login(mit_kdc, 'nobody').refused('^refused 6: ')
    login(mit_kdc, name, service='host/nowhere').refused('^refused 7: ')


@pytest.mark.parametrize('etype', ETYPES)
def test_mit_spake(spake_kdc, etype):
    name = spake_kdc.user('+requires_preauth')
    check(login(spake_kdc, name, '-i', '-e', etype).ok(), name, 'spake', 3)


def test_mit_spake_service_from_the_first_exchange(spake_kdc):
    name = spake_kdc.user('+requires_preauth')
    check(login(spake_kdc, name, '-i', '-b').ok(), name, 'spake', 2, tgt=False)


def test_mit_spake_comes_before_a_timestamp(spake_kdc):
    name = spake_kdc.user('+requires_preauth')
    check(login(spake_kdc, name).ok(), name, 'spake', 3)
    login(spake_kdc, name, '-i', password=WRONG_PASSWORD).refused('^refused 24: wrong password')


@pytest.mark.parametrize('etype', ETYPES)
def test_heimdal_timestamp(heimdal_kdc, etype):
    name = heimdal_kdc.user()
    check(login(heimdal_kdc, name, '-e', etype).ok(), name, 'timestamp', 3)


def test_heimdal_more(heimdal_kdc):
    name = heimdal_kdc.user()
    check(login(heimdal_kdc, name, '-b').ok(), name, 'timestamp', 2, tgt=False)
    text = login(heimdal_kdc, name, '-r').ok()
    assert 'forwarded: ' in text and 'renewed: ' in text, text
    login(heimdal_kdc, name, '-i').refused("^refused 25: .*the line 'HOST allow-timestamp' in ~/.config/sallyport/pins")
    login(heimdal_kdc, name, password=WRONG_PASSWORD).refused('^refused 24: wrong password')


def test_ours(realm):
    name = realm.user()
    assert f'service: {name}@{REALM} {HOST_SERVICE}@{REALM}' in login(realm, name).ok()
    login(realm, name, password=WRONG_PASSWORD).refused('^refused 24: wrong password')
    text = run([LOGIN, '-a', '127.0.0.1', realm.port, f'{name}@.', PASSWORD, HOST_SERVICE]).ok()
    assert f'service: {name}@{REALM} {HOST_SERVICE}@{REALM}' in text, text
