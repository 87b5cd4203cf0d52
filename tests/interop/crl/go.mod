module countersign.dev/interop/crl

go 1.24
