# SPDX-License-Identifier: MIT
"""Runs where Heimdal is: decodes lines "TYPE hex" from standard input with the functions that Heimdal's own ASN.1 compiler made
(libasn1), and writes each again as DER. Prints type, hex as it came, and hex as written or '!' and an error, with tabs between."""
import ctypes
import sys

asn1 = ctypes.CDLL('libasn1.so.8')
ROOM = 4096                                 # more than any struct of the library

# Its names, where they are not the standard's with underscores.
NAME = {'ChangePasswdData': 'ChangePasswdDataMS'}


def call(verb, name):
    function = getattr(asn1, f'{verb}_{NAME.get(name, name.replace("-", "_"))}')
    function.restype = ctypes.c_size_t if verb == 'length' else None if verb == 'free' else ctypes.c_int
    return function


def again(name, der):
    """What Heimdal writes after reading it, in hex, or '!' and why it cannot."""
    value, n = ctypes.create_string_buffer(ROOM), ctypes.c_size_t()
    failed = call('decode', name)(der, ctypes.c_size_t(len(der)), value, ctypes.byref(n))
    if failed:
        return f'!error {failed}'
    size = call('length', name)(value)
    out, wrote = ctypes.create_string_buffer(size), ctypes.c_size_t()
    end = ctypes.c_void_p(ctypes.addressof(out) + size - 1)     # it writes back to front
    failed = call('encode', name)(end, ctypes.c_size_t(size), value, ctypes.byref(wrote))
    call('free', name)(value)
    if failed or wrote.value != size:
        return f'!error {failed} in writing'
    return '!bytes left over' if n.value != len(der) else out.raw.hex()


for line in sys.stdin:
    name, _, text = line.rstrip('\n').rpartition(' ')
    if name in sys.argv[1:]:
        print(name, text, again(name, bytes.fromhex(text)), sep='\t')
