# SPDX-License-Identifier: MIT
"""Our client changes passwords (RFC 3244) at our own password server and at MIT's kadmind."""
import pytest

from harness import BUILD, OTHER_PASSWORD, PASSWORD, REALM, WRONG_PASSWORD, MitRealm, SallyportRealm, run

LOGIN = BUILD / 'tests/client_login'


@pytest.fixture(scope='module', params=[SallyportRealm, MitRealm])
def realm(request, place):
    dir = place / f'kpasswd-{request.param.__name__}'
    dir.mkdir()
    dir.chmod(0o755)
    it = request.param(dir)
    yield it
    it.close()


def login(realm, name, password):
    return run([LOGIN, '127.0.0.1', realm.port, f'{name}@{REALM}', password])


def change(realm, name, password, to, *options):
    return run([LOGIN, '-k', realm.kpasswd_port, '-n', to, *options, '127.0.0.1', realm.port, f'{name}@{REALM}', password])


def test_ones_own(realm):
    name = realm.user()
    assert change(realm, name, PASSWORD, OTHER_PASSWORD).ok().startswith('result 0:')
    login(realm, name, OTHER_PASSWORD).ok()
    login(realm, name, PASSWORD).refused('^refused 24: wrong password')


def test_one_that_has_to_be_changed(realm):
    name = realm.must_change()
    login(realm, name, PASSWORD).refused('^refused 23: ')
    assert change(realm, name, PASSWORD, OTHER_PASSWORD).ok().startswith('result 0:')
    login(realm, name, OTHER_PASSWORD).ok()


def test_a_wrong_one_changes_nothing(realm):
    name = realm.user()
    change(realm, name, WRONG_PASSWORD, OTHER_PASSWORD).refused('^refused 24: wrong password')
    login(realm, name, PASSWORD).ok()


def test_anothers(realm):
    """Without the right to: version 0xff80, and the server's words."""
    name, other = realm.user(), realm.user()
    change(realm, name, PASSWORD, OTHER_PASSWORD, '-t', f'{other}@{REALM}').refused('^result 5: .')
    login(realm, other, PASSWORD).ok()


def test_a_policy_says_no(realm):
    if isinstance(realm, MitRealm):
        realm.kadmin('addpol -minlength 20 long')
        name = realm.user('-policy long', password=PASSWORD * 3)
        old = PASSWORD * 3
    else:
        name, old = realm.user(), PASSWORD
    change(realm, name, old, 'short').refused('^result 4: .')
    login(realm, name, old).ok()
