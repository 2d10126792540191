// SPDX-License-Identifier: MIT

// A gokrb5 client: login by password or by keytab, then a service ticket, decrypted with the service's keytab.
// Usage: login CONF password USER PASSWORD SERVICE KEYTAB | login CONF keytab PRINCIPAL KEYTAB SERVICE KEYTAB
package main

import (
	"fmt"
	"os"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
)

func must(what string, err error) {
	if err != nil {
		fmt.Printf("%s: %v\n", what, err)
		os.Exit(1)
	}
}

func main() {
	a := os.Args
	conf, err := config.Load(a[1])
	must("config", err)
	var cl *client.Client
	if a[2] == "password" {
		cl = client.NewWithPassword(a[3], "TEST", a[4], conf, client.DisablePAFXFAST(true))
	} else {
		kt, err := keytab.Load(a[4])
		must("keytab", err)
		cl = client.NewWithKeytab(a[3], "TEST", kt, conf)
	}
	must("login", cl.Login())
	fmt.Println("login ok")
	ticket, _, err := cl.GetServiceTicket(a[5])
	must("service ticket", err)
	kt, err := keytab.Load(a[6])
	must("keytab", err)
	must("decrypt", ticket.DecryptEncPart(kt, nil))
	fmt.Printf("ticket for %s of %s\n", ticket.SName.PrincipalNameString(), ticket.DecryptedEncPart.CName.PrincipalNameString())
}
