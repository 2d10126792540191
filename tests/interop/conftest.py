# SPDX-License-Identifier: MIT
import os
import pathlib
import shutil
import tempfile

import pytest

import harness


@pytest.fixture(scope='session')
def place():
    """A directory that servers running as other users can reach, unlike pytest's own."""
    top = pathlib.Path(tempfile.mkdtemp(prefix='sp-interop-'))
    top.chmod(0o755)
    yield top
    if os.environ.get('SALLYPORT_KEEP') != '1':
        shutil.rmtree(top, ignore_errors=True)


def make_realm(dir, **options):
    dir.mkdir()
    dir.chmod(0o755)
    kind = harness.MitRealm if os.environ.get('SALLYPORT_KDC') == 'mit' else harness.SallyportRealm
    it = kind(dir, **options)
    it.service_add(f'host/{harness.HOST}')
    it.host_keytab = dir / 'host.keytab'
    it.keytab(f'host/{harness.HOST}', it.host_keytab)
    return it


@pytest.fixture(scope='session')
def realm(place):
    """One realm for all tests; accounts are each test's own."""
    it = make_realm(place / 'realm')
    yield it
    it.close()


@pytest.fixture(scope='session')
def generous(place):
    """A realm whose policy allows what the default refuses: renewing and forwarding."""
    it = make_realm(place / 'generous', generous=True)
    yield it
    it.close()


@pytest.fixture
def home(place, request):
    """A directory of this test's own."""
    name = ''.join(c if c.isalnum() else '-' for c in request.node.name)
    path = pathlib.Path(tempfile.mkdtemp(prefix=name + '-', dir=place))
    path.chmod(0o755)
    return path


@pytest.fixture
def mit(realm, home):
    harness.need_peer('mit')
    return harness.Client(realm, 'mit', home, realm.krb5_conf())


@pytest.fixture
def heimdal(realm, home):
    harness.need_peer('heimdal')
    return harness.Client(realm, 'heimdal', home, realm.krb5_conf('heimdal'))
