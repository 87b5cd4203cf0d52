// What Go's own implementation of transparency logs says of ours.
module countersign.dev/interop/tlog

go 1.24.0

require golang.org/x/mod v0.29.0
