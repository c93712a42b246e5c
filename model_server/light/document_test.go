package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

const token = "0123456789abcdef"

// documentText is a document with these fields instead of, or beside, those of a good one; null removes a field.
func documentText(t *testing.T, changes string) []byte {
	t.Helper()
	fields := map[string]any{}
	for _, text := range []string{`{"schema":1,"sequence":71,"epoch":null,"salt":"15f6a8e5fc","token":"` + token + `",
		"revisions":[{"revision":"88e4b76379","weight":10000}],"reveal":false}`, changes} {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&fields); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(appendCanonical(nil, fields))
	fields["sha256"] = hex.EncodeToString(sum[:])
	return appendCanonical(nil, fields)
}

func mustParse(t *testing.T, changes string) *document {
	t.Helper()
	d, err := parseDocument(documentText(t, changes))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A Python test holds the file's hash against Python's json.dumps.
func TestHashIsThatOfPython(t *testing.T) {
	text, err := os.ReadFile("testdata/split.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	if d.digest != "019112ede453" || d.measure.boundaries[ttft][0] != 1e-05 {
		t.Errorf("got %+v", d)
	}
	for old, changed := range map[string]string{"0.21": "0.22", "1e-05": "1e-5", "71": "72", `"Z"`: `"Y"`, `\u0001`: `\u0002`} {
		if _, err := parseDocument([]byte(strings.Replace(string(text), old, changed, 1))); err == nil {
			t.Errorf("%s was changed to %s unnoticed", old, changed)
		}
	}
}

func TestInvalidDocumentsAreRefused(t *testing.T) {
	good := string(documentText(t, `{}`))
	for name, text := range map[string]string{
		"empty": "", "no object": "[]", "cut": good[:len(good)-1], "more": good + "{}", "no UTF-8": good + "\xff",
		"no hash": strings.Replace(good, "sha256", "sha512", 1), "too large": good + strings.Repeat(" ", largestDocument),
	} {
		if _, err := parseDocument([]byte(text)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	measured := func(measure string) string { return `{"measure":` + measure + `}` }
	load := `"load":{"from":1.0,"ratio":1.3}`
	for _, changes := range []string{
		`{"schema":2}`, `{"schema":1.0}`, `{"schema":null}`, `{"sequence":-1}`, `{"sequence":true}`, `{"epoch":32}`, `{"epoch":"7"}`,
		`{"epoch":1e1}`, `{"token":"short"}`, `{"token":null}`, `{"reveal":1}`, `{"revisions":[]}`, `{"revisions":null}`,
		`{"revisions":[{"revision":"88e4b76379","weight":9999}]}`, `{"revisions":[{"revision":"x","weight":10000}]}`,
		`{"revisions":[{"revision":"88e4b76379","weight":9500},{"revision":"15f6a8e5fc","weight":500}]}`,
		`{"epoch":7,"revisions":[{"revision":"88e4b76379","weight":9500},{"revision":"88e4b76379","weight":500}]}`,
		`{"epoch":7,"revisions":[{"revision":"88e4b76379","weight":10500},{"revision":"15f6a8e5fc","weight":-500}]}`,
		measured(`[]`), measured(`{}`), measured(`{` + load + `}`), measured(`{"load":{"from":0,"ratio":1.3},"boundaries":{}}`),
		measured(`{"load":{"from":1,"ratio":1},"boundaries":{}}`), measured(`{"load":{"from":1e999,"ratio":1.3},"boundaries":{}}`),
		measured(`{` + load + `,"boundaries":{"ttft":[]}}`), measured(`{` + load + `,"boundaries":{"other":[1]}}`),
		measured(`{` + load + `,"boundaries":{"ttft":[2,1]}}`), measured(`{` + load + `,"boundaries":{"ttft":[1,2,3,4,5,6,7]}}`),
		measured(`{` + load + `,"boundaries":{"ttft":["1"]}}`),
	} {
		if _, err := parseDocument(documentText(t, changes)); err == nil {
			t.Errorf("%s was accepted", changes)
		}
	}
}

func TestValidDocumentsAreRead(t *testing.T) {
	two := `"revisions":[{"revision":"88e4b76379","weight":9500},{"revision":"15f6a8e5fc","weight":500}]`
	d := mustParse(t, `{"epoch":0,"reveal":true,"unknown":[1],"measure":null,`+two+`}`)
	if d.epoch != "0" || !d.reveal || d.measure != nil {
		t.Errorf("got %+v", d)
	}
	for bucket, want := range map[int]string{0: "15f6a8e5fc", 499: "15f6a8e5fc", 500: "88e4b76379", 9999: "88e4b76379"} {
		if got := d.choose(bucket); got != want {
			t.Errorf("bucket %d gets %s", bucket, got)
		}
	}
	d = mustParse(t, `{"measure":{"load":{"from":2,"ratio":1.3},"boundaries":{"tpot":[0.01,0.02]}}}`)
	for load, want := range map[float64]int{0: 0, 1.99: 0, 2: 1, 2.6: 2, 2.59: 1, 2 * 1.3 * 1.3: 3, 1e9: 19} {
		if got := d.measure.bucket(load); got != want {
			t.Errorf("load %v is in bucket %d, want %d", load, got, want)
		}
	}
}
