package main

import (
	"net/http"
	"strings"
	"testing"
)

// The buckets are those of Python: int.from_bytes(hashlib.blake2b(key, digest_size=8, key=salt).digest()) % 10_000.
func TestBucketIsThatOfPython(t *testing.T) {
	for _, c := range []struct {
		salt, key string
		want      int
	}{{"15f6a8e5fc", "s1", 3393}, {"15f6a8e5fc", "", 7354}, {"", "abc", 3721}, {"15f6a8e5fc", strings.Repeat("x", 127), 2870},
		{"15f6a8e5fc", strings.Repeat("x", 128), 601}, {"15f6a8e5fc", strings.Repeat("x", 129), 2952},
		{strings.Repeat("k", 64), strings.Repeat("größe", 100), 113}} {
		if got := bucketOf(c.salt, c.key); got != c.want {
			t.Errorf("%q and %.10q: bucket %d, not %d", c.salt, c.key, got, c.want)
		}
	}
}

const sharing = `{"epoch":9,"revisions":[{"revision":"88e4b76379","weight":5000},{"revision":"15f6a8e5fc","weight":5000}]`

func TestEqualHeaderGetsEqualRevision(t *testing.T) {
	s := mounted(t, documentText(t, sharing+`,"key":{"header":"X-Session-Id"}}`))
	seen := func(header http.Header) map[string]bool {
		found := map[string]bool{}
		for range 50 {
			found[s.identify(s.document(), header).revision] = true
		}
		return found
	}
	// Bucket 3393, below the canary's weight.
	if got := seen(http.Header{"X-Session-Id": {"s1"}}); len(got) != 1 || !got["15f6a8e5fc"] {
		t.Errorf("s1: %v", got)
	}
	for _, header := range []http.Header{{}, {"X-Session-Id": {""}}, {"X-Session-Id": {"s1", "s1"}}} {
		if got := seen(header); len(got) != 2 {
			t.Errorf("%v is not random: %v", header, got)
		}
	}
}

func TestKeysThatAreNotUnderstoodAreRefused(t *testing.T) {
	for _, key := range []string{`1`, `"x"`, `[]`, `{}`, `{"header":""}`, `{"header":"a b"}`, `{"header":1}`, `{"user":{}}`,
		`{"header":"a","conversation":{}}`, `{"conversation":null}`} {
		if _, err := parseDocument(documentText(t, sharing+`,"key":`+key+`}`)); err == nil {
			t.Errorf("%s is accepted", key)
		}
	}
	for _, key := range []string{`null`, `{"conversation":{}}`, `{"header":"x-a"}`} {
		mustParse(t, sharing+`,"key":`+key+`}`)
	}
}

func TestPromptIsRevealedWithItsRevision(t *testing.T) {
	prompts := `"prompts":{"triage":{"version":"1.4.0","later":[1]}}`
	for reveal, want := range map[string]string{"false": "", "true": "triage@1.4.0"} {
		_, server := serve(t, mounted(t, documentText(t, `{"reveal":`+reveal+
			`,"revisions":[{"revision":"88e4b76379","weight":10000,`+prompts+`}]}`)))
		response, err := http.Post(server.URL+chatPath, "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Header.Get(promptHeader); got != want {
			t.Errorf("reveal %s: %q", reveal, got)
		}
	}
}
