// Verifies a Countersign log with golang.org/x/mod/sumdb: the checkpoint as a signed note, the
// tiles by Go's tile reader, inclusion of every leaf, and that an earlier checkpoint is its
// beginning.
//
//	tlog KEY DIRECTORY [EARLIER-CHECKPOINT]
//
// DIRECTORY holds `checkpoint` and `tile/…` as they were served.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func main() {
	if len(os.Args) < 3 {
		fail("usage: tlog KEY DIRECTORY [EARLIER-CHECKPOINT]")
	}
	verifier, err := note.NewVerifier(os.Args[1])
	must(err, "the key")
	directory := os.Args[2]
	tree := open(filepath.Join(directory, "checkpoint"), verifier)
	reader := tlog.TileHashReader(tree, files{directory})

	leaves := 0
	for number := int64(0); number*256 < tree.N; number++ {
		width := min(256, tree.N-number*256)
		path := strings.Replace(servedPath(tlog.Tile{H: height, L: 0, N: number, W: int(width)}), "tile/0/", "tile/entries/", 1)
		bundle, err := os.ReadFile(filepath.Join(directory, path))
		must(err, "a bundle")
		for index := number * 256; index < number*256+width; index++ {
			length := int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2 : 2+length]
			bundle = bundle[2+length:]
			proof, err := tlog.ProveRecord(tree.N, index, reader)
			must(err, "a proof of inclusion")
			must(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)), "inclusion")
			leaves++
		}
		if len(bundle) != 0 {
			fail("a bundle goes on after its entries")
		}
	}
	if len(os.Args) > 3 {
		old := open(os.Args[3], verifier)
		proof, err := tlog.ProveTree(tree.N, old.N, reader)
		must(err, "a proof of consistency")
		must(tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash), "consistency")
	}
	fmt.Printf("%d leaves\n", leaves)
}

// open reads a checkpoint: origin, size and root, which Go's own format has in the same lines.
func open(path string, verifier note.Verifier) tlog.Tree {
	text, err := os.ReadFile(path)
	must(err, "the checkpoint")
	signed, err := note.Open(text, note.VerifierList(verifier))
	must(err, "the checkpoint's signature")
	lines := strings.SplitN(signed.Text, "\n", 4)
	if len(lines) < 4 || lines[0] != verifier.Name() {
		fail("the checkpoint's origin is not the key's name")
	}
	var tree tlog.Tree
	_, err = fmt.Sscan(lines[1], &tree.N)
	must(err, "the checkpoint's size")
	tree.Hash, err = tlog.ParseHash(lines[2])
	must(err, "the checkpoint's root")
	return tree
}

// files reads tiles from the directory.
type files struct{ directory string }

func (files) Height() int                 { return height }
func (files) SaveTiles([]tlog.Tile, [][]byte) {}

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(f.directory, servedPath(tile)))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// servedPath is Go's path without the height, which c2sp.org/tlog-tiles fixes.
func servedPath(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
}

func must(err error, what string) {
	if err != nil {
		fail(what + ": " + err.Error())
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "error:", why)
	os.Exit(1)
}
