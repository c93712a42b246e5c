package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mounted is a split whose document and copy are in a temporary directory; `text` is the document at the start.
func mounted(t *testing.T, text []byte) *split {
	t.Helper()
	folder := t.TempDir()
	path := filepath.Join(folder, "split.json")
	if text != nil {
		write(t, path, text)
	}
	return splitOf(path, filepath.Join(folder, "copy.json"))
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, s *split, arguments ...string) (*engine, *httptest.Server) {
	t.Helper()
	c, err := parse(append([]string{"triage"}, arguments...))
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(c, s)
	server := httptest.NewServer(e.routes())
	t.Cleanup(server.Close)
	return e, server
}

func TestDocumentIsFollowedAndLastGoodOneKept(t *testing.T) {
	s := mounted(t, documentText(t, `{}`))
	first := s.document()
	stop := make(chan struct{})
	defer close(stop)
	go s.watch(stop)
	_, server := serve(t, s)
	wait := func(line string) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); !strings.Contains(get(t, server.URL+"/metrics"), line+"\n"); {
			if time.Now().After(deadline) {
				t.Fatalf("missing %s in %s", line, get(t, server.URL+"/metrics"))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	wait(`serin_split_refused 0.0`)
	write(t, s.path, documentText(t, `{"sequence":72}`))
	second := mustParse(t, `{"sequence":72}`)
	wait(`serin_split_info{digest="` + second.digest + `"} 1.0`)
	wait(`serin_split_info{digest="` + first.digest + `"} 0.0`)
	write(t, s.path, documentText(t, `{"schema":2}`))
	wait(`serin_split_refused 1.0`)
	os.Remove(s.path)
	time.Sleep(2 * splitInterval)
	if got := s.document().digest; got != second.digest {
		t.Errorf("%s is in force", got)
	}
	if again := splitOf(s.path, s.copyPath); again.document().digest != second.digest {
		t.Error("a restart does not find the last good document")
	}
	write(t, s.path, documentText(t, `{"sequence":73}`))
	wait(`serin_split_refused 0.0`)
}

func TestReadinessNeedsADocumentAndLivenessDoesNot(t *testing.T) {
	s := mounted(t, []byte("broken"))
	_, server := serve(t, s)
	status := func(query string) int {
		response, err := http.Get(server.URL + "/health" + query)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if status("?split") != 503 || status("") != 200 {
		t.Errorf("without a document: %d and %d", status("?split"), status(""))
	}
	stamped(t, server.URL+chatPath, `{}`, stamp("abcdef0123", "7."+token))
	wants(t, get(t, server.URL+"/metrics"), `serin_split_refused 1.0`, `serin_requests_started_total{epoch="none",revision="none"} 1.0`)
	write(t, s.path, documentText(t, `{}`))
	s.load()
	write(t, s.path, []byte("broken again"))
	s.load()
	if status("?split") != 200 {
		t.Error("a damaged document takes a pod out of service that has a good one")
	}
	_, server = serve(t, nil)
	if status("?split") != 200 {
		t.Error("a pod without a document is never ready")
	}
}

func TestGatewaySplitTakesEpochFromHeaderWithToken(t *testing.T) {
	s := mounted(t, documentText(t, `{}`))
	for value, want := range map[string]string{"7." + token: "7", "0." + token: "0", "31." + token: "31", "32." + token: none, "07." + token: none,
		"7": none, "7.": none, "7.fedcba9876543210": none, "." + token: none, "7." + token + " ": none, "7." + token + ".": none, "": none} {
		if got := s.identify(s.document(), http.Header{epochHeader: {value}, revisionHeader: {"abcdef0123"}}); got != (identity{"88e4b76379", want}) {
			t.Errorf("%q is %v", value, got)
		}
	}
	for _, header := range []http.Header{{}, {epochHeader: {"7." + token, "7." + token}}} {
		if got := s.identify(s.document(), header); got != (identity{"88e4b76379", none}) {
			t.Errorf("%v is %v", header, got)
		}
	}
}

func TestPodSplitsByWeightAndStampsItself(t *testing.T) {
	s := mounted(t, documentText(t, `{"epoch":9,"revisions":[{"revision":"88e4b76379","weight":7500},{"revision":"15f6a8e5fc","weight":2500}]}`))
	seen := map[identity]int{}
	for range 10_000 {
		seen[s.identify(s.document(), http.Header{epochHeader: {"7." + token}})]++
	}
	canary := seen[identity{"15f6a8e5fc", "9"}]
	// Seven standard deviations.
	if len(seen) != 2 || canary < 2200 || canary > 2800 {
		t.Errorf("got %v", seen)
	}
}

func TestRevisionIsRevealedOnlyIfAskedFor(t *testing.T) {
	for reveal, want := range map[string]string{"false": "", "true": "88e4b76379"} {
		_, server := serve(t, mounted(t, documentText(t, `{"reveal":`+reveal+`}`)))
		response, err := http.Post(server.URL+chatPath, "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Header.Get(revisionHeader); got != want {
			t.Errorf("reveal %s: %q", reveal, got)
		}
	}
}
