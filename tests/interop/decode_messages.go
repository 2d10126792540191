// SPDX-License-Identifier: MIT

// Decodes lines "TYPE hex" from standard input with gokrb5 and writes again what it can write. Prints type, hex as it
// came, and hex as written or '!' and an error, with tabs between.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

type reader interface{ Unmarshal([]byte) error }
type writer interface{ Marshal() ([]byte, error) }

var kinds = map[string]func() reader{
	"EncryptedData":     func() reader { return new(types.EncryptedData) },
	"Ticket":            func() reader { return new(messages.Ticket) },
	"EncTicketPart":     func() reader { return new(messages.EncTicketPart) },
	"KDC-REQ-BODY":      func() reader { return new(messages.KDCReqBody) },
	"AS-REQ":            func() reader { return new(messages.ASReq) },
	"TGS-REQ":           func() reader { return new(messages.TGSReq) },
	"AS-REP":            func() reader { return new(messages.ASRep) },
	"TGS-REP":           func() reader { return new(messages.TGSRep) },
	"EncASRepPart":      func() reader { return new(messages.EncKDCRepPart) },
	"EncTGSRepPart":     func() reader { return new(messages.EncKDCRepPart) },
	"AP-REQ":            func() reader { return new(messages.APReq) },
	"Authenticator":     func() reader { return new(types.Authenticator) },
	"AP-REP":            func() reader { return new(messages.APRep) },
	"EncAPRepPart":      func() reader { return new(messages.EncAPRepPart) },
	"KRB-SAFE":          func() reader { return new(messages.KRBSafe) },
	"KRB-PRIV":          func() reader { return new(messages.KRBPriv) },
	"EncKrbPrivPart":    func() reader { return new(messages.EncKrbPrivPart) },
	"KRB-CRED":          func() reader { return new(messages.KRBCred) },
	"EncKrbCredPart":    func() reader { return new(messages.EncKrbCredPart) },
	"KRB-ERROR":         func() reader { return new(messages.KRBError) },
	"METHOD-DATA":       func() reader { return new(types.PADataSequence) },
	"AuthorizationData": func() reader { return new(types.AuthorizationData) },
	"PA-ENC-TS-ENC":     func() reader { return new(types.PAEncTSEnc) },
	"ETYPE-INFO":        func() reader { return new(types.ETypeInfo) },
	"ETYPE-INFO2":       func() reader { return new(types.ETypeInfo2) },
	"AD-KDCIssued":      func() reader { return new(types.ADKDCIssued) },
	"TYPED-DATA":        func() reader { return new(types.TypedDataSequence) },
	"EncryptionKey":     func() reader { return new(types.EncryptionKey) },
	"Checksum":          func() reader { return new(types.Checksum) },
}

// What gokrb5 writes after reading it, in hex; empty where it has no writer; '!' and why it cannot.
func again(v reader, der []byte) string {
	if err := v.Unmarshal(der); err != nil {
		return "!" + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	w, can := v.(writer)
	if !can {
		return ""
	}
	out, err := w.Marshal()
	if err != nil {
		return "!" + err.Error()
	}
	return hex.EncodeToString(out)
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		at := strings.LastIndexByte(in.Text(), ' ')
		name, text := in.Text()[:at], in.Text()[at+1:]
		if der, err := hex.DecodeString(text); err == nil && kinds[name] != nil {
			fmt.Printf("%s\t%s\t%s\n", name, text, again(kinds[name](), der))
		}
	}
}
