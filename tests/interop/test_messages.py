# SPDX-License-Identifier: MIT
"""Random messages of ours, decoded by impacket, gokrb5 and Heimdal and written again by them: the same message."""
import os
import pathlib
import shutil

import pytest

from harness import BUILD, need_peer, peer, run

HERE = pathlib.Path(__file__).resolve().parent
DUMP = pathlib.Path(os.environ.get('SALLYPORT_DUMP_MESSAGES', BUILD / 'tests/dump_messages'))
ROUNDS = 60


@pytest.fixture(scope='module')
def dump():
    if not DUMP.exists():
        pytest.fail(f'{DUMP} is not built; set SALLYPORT_BUILD to a build directory')
    return run([DUMP, ROUNDS, 7]).ok()


def split(der):
    """The elements of DER that is known to be well-formed."""
    at = 0
    while at < len(der):
        n, head = der[at + 1], 2
        if n >= 0x80:
            head += n & 0x7f
            n = int.from_bytes(der[at + 2:at + head], 'big')
        assert at + head + n <= len(der), der.hex()
        yield der[at], der[at + head:at + head + n]
        at += head + n


def meaning(der):
    """Tags and contents, but for the habits of the peers' writers: both leave off fields that hold nothing (an empty list,
    in gokrb5 also 0 and an empty text), pyasn1 writes -128 in two bytes, and Heimdal's kvno is signed: 32 bits either way."""
    seen = []
    for tag, body in split(der):
        value = int.from_bytes(body, 'big', signed=True) if tag == 2 else meaning(body) if tag & 0x20 else body
        if tag == 2 and -2**31 <= value < 0:
            value += 2**32
        if tag & 0xe0 == 0xa0 and not any(v for _, v in value):
            continue
        seen.append((tag, value))
    return seen


def check(text, retag=None):
    counted, bad = {}, []
    for line in text.splitlines():
        name, came, wrote = line.split('\t')
        der = bytes.fromhex(came)
        if wrote.startswith('!'):
            bad.append(f'{name} {came[:300]}: {wrote}')
        elif wrote:
            again = bytes.fromhex(wrote)
            if retag and name in retag:
                der = retag[name] + der[1:]
            if meaning(again) != meaning(der):
                bad.append(f'{name} {came[:300]} is written again as {wrote[:300]}')
        counted[name] = counted.get(name, 0) + 1
    assert not bad, '\n'.join(bad[:10])
    assert counted and set(counted.values()) == {ROUNDS}, counted
    return counted


def test_comparison_can_fail():
    a = bytes.fromhex('3010a003020112a209040768656c6c6f2121')
    with pytest.raises(AssertionError):
        check('\n'.join(f'X\t{a.hex()}\t{a.hex().replace("0112", "0113")}' for _ in range(ROUNDS)))
    assert check('\n'.join(f'X\t{a.hex()}\t{a.hex()}' for _ in range(ROUNDS))) == {'X': ROUNDS}


def test_impacket(dump):
    need_peer('mit')
    said = run(peer('mit', '/usr/bin/python3', HERE / 'decode_messages.py'), stdin=dump).ok()
    counted = check(said)
    assert len(counted) == 31 and 'PA-ClientCanonicalized' in counted


# Those that Heimdal keeps whole: elsewhere it drops flags that it does not know, and years after 2038.
HEIMDAL = ['AD-AND-OR', 'AD-KDCIssued', 'AP-REP', 'AuthorizationData', 'ChangePasswdData', 'Checksum', 'ETYPE-INFO',
           'EncryptedData', 'EncryptionKey', 'METHOD-DATA', 'PrincipalName', 'TGS-REP', 'TYPED-DATA']


def test_heimdal(dump):
    need_peer('heimdal')
    said = run(peer('heimdal', '/usr/bin/python3', HERE / 'decode_messages_heimdal.py', *HEIMDAL), stdin=dump).ok()
    # An empty TYPED-DATA breaks its SIZE (1..MAX), which ours does not mind and Heimdal does.
    empty = [line for line in said.splitlines() if line.startswith('TYPED-DATA\t3000\t')]
    assert all(line.split('\t')[2].startswith('!error') for line in empty) and len(empty) < ROUNDS / 2
    for line in empty:
        said = said.replace(line, 'TYPED-DATA\t3000\t3000')
    counted = check(said)
    assert sorted(counted) == sorted(HEIMDAL)


def test_gokrb5(dump, place):
    need_peer('go')
    source = place / 'decode_messages.go'
    shutil.copy(HERE / 'decode_messages.go', source)
    cache = pathlib.Path(os.environ.get('SALLYPORT_PEERS', '/var/cache/sallyport-peers')) / 'go-cache'
    env = dict(os.environ, GO111MODULE='off', GOPATH='/usr/share/gocode', GOCACHE=str(cache), GOFLAGS='', HOME=str(place),
               CGO_ENABLED='0')
    run(peer('go', 'go', 'build', '-o', place / 'decode-messages', source), env=env, timeout=300).ok()
    said = run([place / 'decode-messages'], stdin=dump).ok()
    # gokrb5 writes the part of a TGS reply with the tag of an AS reply.
    assert len(check(said, retag={'EncTGSRepPart': b'\x79'})) == 29
