# SPDX-License-Identifier: MIT
"""impacket's getTGT works; its getST sends no checksum over the request body and must not."""
import pathlib

import pytest

from harness import Client, HOST, PASSWORD, REALM, WRONG_PASSWORD, need_peer

EXAMPLES = '/usr/share/doc/python3-impacket/examples'
DRIVER = pathlib.Path(__file__).with_name('impacket_port.py')


@pytest.fixture
def realm(generous):
    """impacket 0.10 asks for a renewable TGT and cannot write one down that has no renew-till."""
    return generous


@pytest.fixture
def impacket(realm, home):
    need_peer('mit')
    client = Client(realm, 'mit', home, realm.krb5_conf())

    def example(script, *argv, **env):
        return client.run('/usr/bin/python3', DRIVER, realm.port, f'{EXAMPLES}/{script}', '-dc-ip', '127.0.0.1', *argv,
                          cwd=home, **env)
    return example


def test_tgt(realm, home, impacket):
    realm.need('as-tag')
    name = realm.user()
    text = impacket('getTGT.py', f'{REALM}/{name}:{PASSWORD}').ok()
    assert f'Saving ticket in {name}.ccache' in text
    client = Client(realm, 'mit', home, realm.krb5_conf())
    cache = f'FILE:{home}/{name}.ccache'
    assert f'krbtgt/{REALM}@{REALM}' in client.run('klist', KRB5CCNAME=cache).ok()
    client.run('kvno', f'host/{HOST}', KRB5CCNAME=cache).ok()


def test_wrong_password(realm, impacket, home):
    name = realm.user()
    text = impacket('getTGT.py', f'{REALM}/{name}:{WRONG_PASSWORD}').text
    assert 'KDC_ERR_PREAUTH_FAILED' in text, text
    assert not (home / f'{name}.ccache').exists()


def test_request_without_body_checksum_is_refused(realm, home, impacket):
    realm.need('strict-checksum')
    name = realm.user()
    impacket('getTGT.py', f'{REALM}/{name}:{PASSWORD}').ok()
    text = impacket('getST.py', '-k', '-no-pass', '-spn', f'host/{HOST}', f'{REALM}/{name}',
                    KRB5CCNAME=str(home / f'{name}.ccache')).text
    assert 'KRB_AP_ERR_BAD_INTEGRITY' in text or 'KRB_AP_ERR_INAPP_CKSUM' in text, text
    assert 'Saving ticket' not in text
