// Command certificates makes what a fresh cluster authenticates with: an authority, one serving
// certificate, any number of client certificates, and the key that signs service account tokens.
//
//	certificates -out DIR -server 127.0.0.1,localhost -client admin=kubernetes-admin/system:masters …
//
// Every file is new on every run: the clusters that use them live for hours.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const lifetime = 365 * 24 * time.Hour

type authority struct {
	directory   string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func main() {
	var clients []string
	directory := flag.String("out", "", "directory for the files")
	server := flag.String("server", "", "names and addresses of the API server, separated by commas")
	flag.Func("client", "FILE=COMMON-NAME[/ORGANISATION], may be repeated", func(value string) error {
		clients = append(clients, value)
		return nil
	})
	flag.Parse()
	if err := run(*directory, *server, clients); err != nil {
		fmt.Fprintln(os.Stderr, "certificates:", err)
		os.Exit(1)
	}
}

func run(directory, server string, clients []string) error {
	if directory == "" || server == "" {
		return errors.New("-out and -server are needed")
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	issuer, err := newAuthority(directory)
	if err != nil {
		return err
	}
	if err := issuer.issueServer(strings.Split(server, ",")); err != nil {
		return err
	}
	for _, client := range clients {
		if err := issuer.issueClient(client); err != nil {
			return err
		}
	}
	signing, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return writeKey(filepath.Join(directory, "service-accounts.key"), signing)
}

func newAuthority(directory string) (*authority, error) {
	template := newTemplate(pkix.Name{CommonName: "serin-sandbox"})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage |= x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	issuer := &authority{directory: directory, certificate: template, key: key}
	return issuer, issuer.write("ca", template, key)
}

func (issuer *authority) issueServer(hosts []string) error {
	template := newTemplate(pkix.Name{CommonName: "kube-apiserver"})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return issuer.issue("server", template)
}

func (issuer *authority) issueClient(definition string) error {
	file, subject, found := strings.Cut(definition, "=")
	if !found {
		return fmt.Errorf("client %q is not of the form FILE=COMMON-NAME/ORGANISATION", definition)
	}
	name, organisation, grouped := strings.Cut(subject, "/")
	identity := pkix.Name{CommonName: name}
	if grouped {
		identity.Organization = []string{organisation}
	}
	template := newTemplate(identity)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return issuer.issue(file, template)
}

func (issuer *authority) issue(file string, template *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return issuer.write(file, template, key)
}

func (issuer *authority) write(file string, template *x509.Certificate, key *ecdsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, &key.PublicKey, issuer.key)
	if err != nil {
		return err
	}
	path := filepath.Join(issuer.directory, file)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path+".crt", block, 0o600); err != nil {
		return err
	}
	return writeKey(path+".key", key)
}

// newTemplate starts an hour ago: a machine that was just restored may have a clock that jumps back.
func newTemplate(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   subject,
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(lifetime),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

// writeKey uses the form that the API server reads for token keys; PKCS 8 would be refused there.
func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}
