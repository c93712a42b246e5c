package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	splitVariable = "SERIN_SPLIT"
	splitCopy     = "/tmp/serin-split.json"
	splitInterval = 250 * time.Millisecond
)

// split keeps the current split document. A nil split is a pod without one: there, headers have revision and epoch.
type split struct {
	path     string // of the document, in a volume of a ConfigMap
	copyPath string // of the last good document, on a volume that survives a restart of the container
	current  atomic.Pointer[document]
	mutex    sync.Mutex // guards the fields below
	seen     []byte     // the text that was read last, good or not
	before   string     // digest of the document before the current one
	refused  bool
}

// splitOf returns the split of a document, already loaded if it is there; nil without a path.
func splitOf(path, copyPath string) *split {
	if path == "" {
		return nil
	}
	s := &split{path: path, copyPath: copyPath}
	s.load()
	if s.current.Load() == nil {
		s.restore()
	}
	return s
}

// load reads the document, and applies it if it is good. Otherwise the last good one stays.
func (s *split) load() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	text, err := readDocument(s.path)
	if err != nil || s.seen != nil && bytes.Equal(text, s.seen) {
		return
	}
	s.seen = text
	next, err := parseDocument(text)
	s.refused = err != nil
	if err != nil {
		log.Printf("light: the split document %s is refused: %v; the last good one stays in force", s.path, err)
		return
	}
	s.apply(next)
	if err := writeCopy(s.copyPath, text); err != nil {
		log.Printf("light: the split document cannot be copied for a restart: %v; mount a writable volume there", err)
	}
}

// restore applies the copy of the last good document.
func (s *split) restore() {
	text, err := readDocument(s.copyPath)
	if err != nil {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if last, err := parseDocument(text); err == nil {
		s.apply(last)
	}
}

func (s *split) apply(next *document) {
	if now := s.current.Load(); now != nil && now.digest != next.digest {
		s.before = now.digest
	}
	s.current.Store(next)
}

// watch loads the document again and again until `stop` is closed.
func (s *split) watch(stop <-chan struct{}) {
	if s == nil {
		return
	}
	tick := time.NewTicker(splitInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.load()
		case <-stop:
			return
		}
	}
}

// document returns the document in force; nil if there is none.
func (s *split) document() *document {
	if s == nil {
		return nil
	}
	return s.current.Load()
}

// identify returns revision and epoch of a request; `d` is the document in force when it arrived.
func (s *split) identify(d *document, header http.Header) identity {
	switch {
	case s == nil:
		return identify(header)
	case d == nil:
		return unstamped
	case d.epoch != "":
		return identity{d.choose(d.bucketOf(header)), d.epoch}
	}
	return identity{d.revisions[0].revision, stampedEpoch(header, d.token)}
}

// write prints the series by which the operator sees which document this pod has.
func (s *split) write(w io.Writer) {
	if s == nil {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	fmt.Fprint(w, "# TYPE serin_split_info gauge\n")
	if now := s.current.Load(); now != nil {
		fmt.Fprintf(w, "serin_split_info{digest=%q} 1.0\n", now.digest)
		if s.before != "" && s.before != now.digest {
			fmt.Fprintf(w, "serin_split_info{digest=%q} 0.0\n", s.before)
		}
	}
	refused := 0
	if s.refused {
		refused = 1
	}
	fmt.Fprintf(w, "# TYPE serin_split_refused gauge\nserin_split_refused %d.0\n", refused)
}

func readDocument(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// One byte more than allowed, so that the parser sees that it is too large.
	return io.ReadAll(io.LimitReader(file, largestDocument+1))
}

// writeCopy replaces the copy at once, so that a crash leaves the old or the new one.
func writeCopy(path string, text []byte) error {
	partial, err := os.CreateTemp(filepath.Dir(path), ".serin-split-*")
	if err != nil {
		return err
	}
	defer os.Remove(partial.Name())
	_, err = partial.Write(text)
	if closed := partial.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(partial.Name(), path)
}
