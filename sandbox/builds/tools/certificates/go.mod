// The cluster's certificates and keys.
module serin.dev/sandbox/tools/certificates

go 1.24
