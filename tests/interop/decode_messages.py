# SPDX-License-Identifier: MIT
"""Runs where impacket is: decodes lines "TYPE hex" from standard input with impacket's ASN.1 classes and writes each again as
DER. Prints type, hex as it came, and hex as written or '!' and an error, with tabs between."""
import sys

import impacket.krb5.asn1 as asn1
from pyasn1.codec.der import decoder, encoder
from pyasn1.type import namedtype, tag, univ


def field(name, number, kind):
    return namedtype.NamedType(name, kind().subtype(explicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatConstructed, number)))


# No peer at hand knows this one. The two shells are written down here from their definition, so that they check tags and
# nesting, not our reading of the text; what is in them, and the codec, is not ours.
class ClientCanonicalizedNames(univ.Sequence):
    componentType = namedtype.NamedTypes(field('requested-name', 0, asn1.PrincipalName), field('mapped-name', 1, asn1.PrincipalName))


class ClientCanonicalized(univ.Sequence):
    componentType = namedtype.NamedTypes(field('names', 0, ClientCanonicalizedNames), field('canon-checksum', 1, asn1.Checksum))


# What impacket has no class for, or one that cannot decode anything (TYPED-DATA), is left to Heimdal: decode_messages_heimdal.py.
CLASS = {
    'PrincipalName': asn1.PrincipalName, 'EncryptedData': asn1.EncryptedData, 'Ticket': asn1.Ticket,
    'EncTicketPart': asn1.EncTicketPart, 'KDC-REQ-BODY': asn1.KDC_REQ_BODY, 'AS-REQ': asn1.AS_REQ, 'TGS-REQ': asn1.TGS_REQ,
    'AS-REP': asn1.AS_REP, 'TGS-REP': asn1.TGS_REP, 'EncASRepPart': asn1.EncASRepPart, 'EncTGSRepPart': asn1.EncTGSRepPart,
    'AP-REQ': asn1.AP_REQ, 'Authenticator': asn1.Authenticator, 'AP-REP': asn1.AP_REP, 'EncAPRepPart': asn1.EncAPRepPart,
    'KRB-SAFE': asn1.KRB_SAFE, 'KRB-PRIV': asn1.KRB_PRIV, 'EncKrbPrivPart': asn1.EncKrbPrivPart, 'KRB-CRED': asn1.KRB_CRED,
    'EncKrbCredPart': asn1.EncKrbCredPart, 'KRB-ERROR': asn1.KRB_ERROR, 'METHOD-DATA': asn1.METHOD_DATA,
    'AuthorizationData': asn1.AuthorizationData, 'PA-ENC-TS-ENC': asn1.PA_ENC_TS_ENC, 'ETYPE-INFO': asn1.ETYPE_INFO,
    'ETYPE-INFO2': asn1.ETYPE_INFO2, 'AD-KDCIssued': asn1.AD_KDCIssued, 'AD-AND-OR': asn1.AD_AND_OR,
    'Checksum': asn1.Checksum, 'EncryptionKey': asn1.EncryptionKey, 'PA-ClientCanonicalized': ClientCanonicalized,
}


def again(cls, der):
    """What impacket writes after reading it, in hex, or '!' and why it cannot."""
    try:
        value, rest = decoder.decode(der, asn1Spec=cls())
        return '!bytes left over' if rest else encoder.encode(value).hex()
    except Exception as e:                  # pyasn1 raises many kinds; each is a finding
        return f'!{type(e).__name__}: {str(e)[:300]}'


for line in sys.stdin:
    name, _, text = line.rstrip('\n').rpartition(' ')
    if name in CLASS:
        print(name, text, again(CLASS[name], bytes.fromhex(text)), sep='\t')
