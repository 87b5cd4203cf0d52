// Command crl judges a certificate by revocation lists as a Go program would, with crypto/x509 alone.
//
//	crl DIRECTORY
//
// The directory holds leaf.pem, above.pem, roots.pem and lists.pem. It says "good" or "revoked", and
// fails where an authority of the chain has no list that it has signed and that is of now.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: crl DIRECTORY")
		os.Exit(2)
	}
	said, err := judge(os.Args[1], time.Now())
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Println(said)
}

func judge(directory string, now time.Time) (string, error) {
	chain, err := chain(directory)
	if err != nil {
		return "", err
	}
	lists, err := lists(filepath.Join(directory, "lists.pem"))
	if err != nil {
		return "", err
	}
	said := "good"
	for at, certificate := range chain[:len(chain)-1] {
		list := listOf(chain[at+1], lists, now)
		if list == nil {
			return "", fmt.Errorf("no list of %q", chain[at+1].Subject)
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(certificate.SerialNumber) == 0 {
				said = "revoked"
			}
		}
	}
	return said, nil
}

// chain is the one chain from the leaf to a root, both included.
func chain(directory string) ([]*x509.Certificate, error) {
	var read [3][]*x509.Certificate
	for at, name := range []string{"leaf.pem", "above.pem", "roots.pem"} {
		ders, err := blocks(filepath.Join(directory, name), "CERTIFICATE")
		if err != nil {
			return nil, err
		}
		for _, der := range ders {
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			read[at] = append(read[at], certificate)
		}
	}
	if len(read[0]) != 1 {
		return nil, errors.New("leaf.pem holds not one certificate")
	}
	above, roots := x509.NewCertPool(), x509.NewCertPool()
	for _, certificate := range read[1] {
		above.AddCert(certificate)
	}
	for _, certificate := range read[2] {
		roots.AddCert(certificate)
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	chains, err := read[0][0].Verify(x509.VerifyOptions{Intermediates: above, Roots: roots, KeyUsages: usages})
	if err != nil {
		return nil, err
	}
	return chains[0], nil
}

func lists(path string) ([]*x509.RevocationList, error) {
	ders, err := blocks(path, "X509 CRL")
	if err != nil {
		return nil, err
	}
	var lists []*x509.RevocationList
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return lists, nil
}

func listOf(authority *x509.Certificate, lists []*x509.RevocationList, now time.Time) *x509.RevocationList {
	for _, list := range lists {
		named := bytes.Equal(list.RawIssuer, authority.RawSubject)
		current := !now.Before(list.ThisUpdate) && now.Before(list.NextUpdate)
		if named && current && list.CheckSignatureFrom(authority) == nil {
			return list
		}
	}
	return nil
}

func blocks(path, label string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ders [][]byte
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return ders, nil
		}
		if block.Type != label {
			return nil, fmt.Errorf("%s holds a %s", path, block.Type)
		}
		ders, text = append(ders, block.Bytes), rest
	}
}
