//go:build tools

// Package h2spec pins the version of h2spec that judges the HTTP/2 listeners.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"
