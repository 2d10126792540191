# SPDX-License-Identifier: MIT
"""./demo does what it says and cleans up. The stock programs come from a private root, so that the host stays as it is;
SALLYPORT_SLOW=1 adds the run on a bare Debian, where it installs what it needs."""
import os
import pathlib
import re
import time

from harness import PEERS, TOP, need_peer, peer, run

BUILD = TOP / 'b-demo'


def leftovers(place):
    return sorted(p.name for p in place.iterdir())


def still_running(place):
    """Processes that were told of this directory."""
    found = []
    for file in pathlib.Path('/proc').glob('[0-9]*/environ'):
        try:
            if str(place).encode() in file.read_bytes() + file.with_name('cmdline').read_bytes():
                found.append(file.with_name('cmdline').read_bytes().replace(b'\0', b' ').decode())
        except OSError:         # it ended meanwhile, or is the kernel's
            pass
    return found


def check_story(text):
    assert '!!' not in text, text
    for line in ('aes256-cts', 'kvno = 1', 'Password changed', 'the same answer', 'port 88: no', 'alice@NAS1 is logged in', 'X-User: alice@NAS1',
                 'NegTokenInit offering IAKERB; IAKERB: TGS-REQ', '"current_user": "alice"', 'port 5432: 2', 'What next'):
        assert line in text, f'{line!r} is missing: {text}'
    took = re.search(r'This took (\d+) s after the build', text)
    assert took and int(took[1]) < 60, text


def test_demo(home):
    need_peer('gss')
    kept = BUILD.exists()
    began = time.monotonic()
    said = run(peer('gss', TOP / 'demo'), env=dict(os.environ, TMPDIR=str(home)), timeout=420, cwd=TOP)
    assert said.code == 0, said.text
    check_story(said.text)
    assert leftovers(home) == [] and still_running(home) == [] and BUILD.exists() == kept
    assert time.monotonic() - began < 400


def test_demo_usage():
    assert run([TOP / 'demo', '--help']).ok().startswith('usage: ./demo')
    assert run([TOP / 'demo', '--nonsense']).code == 2


if os.environ.get('SALLYPORT_SLOW') == '1':
    def test_demo_on_a_bare_machine():
        said = run([PEERS.parent / 'fresh-machine', '--dirty', '--', './demo'], timeout=1200)
        assert said.code == 0, said.text
        check_story(said.text)
