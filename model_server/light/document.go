package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The split document: which revisions this pod serves, who splits and stamps requests, and what to measure. This file
// parses and checks one; split.go finds it and keeps it current. The fields are those that the Python middleware reads.
const (
	documentSchema   = 1
	documentParts    = 10_000
	digestDigits     = 12
	largestDocument  = 1 << 20
	largestSequence  = 1 << 53
	largestSalt      = 64
	smallestRatio    = 1.01
	loadBuckets      = 20
	maxBoundaries    = 6
	documentHashName = "sha256"
)

var (
	tokenForm  = regexp.MustCompile(`^[0-9a-f]{16}$`)
	headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")
)

// The latencies that are compared at equal load, as in the label `metric` and in the document.
const (
	ttft = iota
	tpot
	e2e
	queue
)

var latencies = [4]string{"ttft", "tpot", "e2e", "queue"}

// document is a valid split document. It does not change.
type document struct {
	digest    string
	epoch     string // empty if the gateway splits; then a header has the epoch
	token     string
	salt      string
	keyHeader string  // requests with the same value of it get the same revision; empty: each one is drawn
	revisions []share // one; two if this pod splits: the second one is the canary's
	reveal    bool
	measure   *measure           // nil if no trial compares latencies
	checks    map[string]string  // by name, the text of what each asks
	fails     map[string]float64 // by revision, the share of fails that its prompt asks for
}

type share struct {
	revision string
	weight   int
	prompt   string // family@version; empty if it has none. This server does not apply it.
}

// measure holds what a trial has pinned for the pods to count.
type measure struct {
	from, ratio float64
	boundaries  [4][]float64
	text        string // canonical, to see whether it has changed
}

// parseDocument checks a document completely: its hash, its schema, and each field that is used here.
func parseDocument(text []byte) (*document, error) {
	if len(text) > largestDocument {
		return nil, fmt.Errorf("it is larger than %d bytes", largestDocument)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("it is not a JSON object: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	stated, _ := fields[documentHashName].(string)
	delete(fields, documentHashName)
	sum := sha256.Sum256(appendCanonical(nil, fields))
	if hash := hex.EncodeToString(sum[:]); hash != stated {
		return nil, fmt.Errorf("its hash is %s, but it says %q", hash, stated)
	}
	d := &document{digest: stated[:digestDigits]}
	return d, d.read(fields)
}

func (d *document) read(fields map[string]any) error {
	schema, err := integer(fields, "schema", 0, math.MaxInt32)
	if err != nil {
		return err
	}
	if schema != documentSchema {
		return fmt.Errorf("its schema is %d, and this server knows %d only", schema, documentSchema)
	}
	if _, err = integer(fields, "sequence", 0, largestSequence); err != nil {
		return err
	}
	if fields["epoch"] != nil {
		epoch, err := integer(fields, "epoch", 0, epochs-1)
		if err != nil {
			return err
		}
		d.epoch = strconv.Itoa(epoch)
	}
	var known bool
	if d.token, known = fields["token"].(string); !known || !tokenForm.MatchString(d.token) {
		return errors.New("token is not 16 hex digits")
	}
	if d.salt, known = fields["salt"].(string); !known || len(d.salt) > largestSalt {
		return fmt.Errorf("salt is not a text of at most %d bytes", largestSalt)
	}
	if d.keyHeader, err = readKey(fields["key"]); err != nil {
		return err
	}
	if reveal, present := fields["reveal"]; present {
		if d.reveal, known = reveal.(bool); !known {
			return errors.New("reveal is not true or false")
		}
	}
	if err = d.readRevisions(fields["revisions"]); err != nil {
		return err
	}
	if fields["checks"] != nil {
		if d.checks, err = readChecks(fields["checks"]); err != nil {
			return err
		}
	}
	if fields["measure"] != nil {
		d.measure, err = readMeasure(fields["measure"])
	}
	return err
}

func (d *document) readRevisions(value any) error {
	list, _ := value.([]any)
	if len(list) != 1 && len(list) != 2 {
		return errors.New("revisions is not a list of one or two")
	}
	if len(list) == 2 && d.epoch == "" {
		return errors.New("it has two revisions but no epoch, so nothing says which one gets a request")
	}
	sum := 0
	for _, item := range list {
		fields, _ := item.(map[string]any)
		revision, _ := fields["revision"].(string)
		if !revisionForm.MatchString(revision) {
			return errors.New("a revision is not 10 hex digits")
		}
		weight, err := integer(fields, "weight", 0, documentParts)
		if err != nil {
			return err
		}
		sum += weight
		d.revisions = append(d.revisions, share{revision, weight, readPrompt(fields["prompts"])})
		if promised := promisedFails(fields["prompts"]); promised >= 0 {
			if d.fails == nil {
				d.fails = map[string]float64{}
			}
			d.fails[revision] = promised
		}
	}
	if sum != documentParts {
		return fmt.Errorf("the weights sum to %d, not %d", sum, documentParts)
	}
	if len(list) == 2 && d.revisions[0].revision == d.revisions[1].revision {
		return errors.New("the two revisions are equal")
	}
	return nil
}

// readKey returns the header of sticky requests. The first user message is no key here: this server reads a body only
// after it has chosen the revision.
func readKey(value any) (string, error) {
	if value == nil {
		return "", nil
	}
	fields, _ := value.(map[string]any)
	if _, conversation := fields["conversation"].(map[string]any); conversation && len(fields) == 1 {
		return "", nil
	}
	header, _ := fields["header"].(string)
	if len(fields) != 1 || !headerForm.MatchString(header) {
		return "", errors.New("key names neither a header nor the conversation")
	}
	return http.CanonicalHeaderKey(header), nil
}

func readPrompt(value any) string {
	families, _ := value.(map[string]any)
	for family, content := range families {
		fields, _ := content.(map[string]any)
		version, _ := fields["version"].(string)
		return family + "@" + version
	}
	return ""
}

func readMeasure(value any) (*measure, error) {
	fields, _ := value.(map[string]any)
	load, _ := fields["load"].(map[string]any)
	m := &measure{text: string(appendCanonical(nil, value))}
	var err error
	if m.from, err = positive(load["from"]); err != nil {
		return nil, fmt.Errorf("measure.load.from is %w", err)
	}
	if m.ratio, err = positive(load["ratio"]); err != nil || m.ratio < smallestRatio {
		return nil, fmt.Errorf("measure.load.ratio is not a number of at least %v", smallestRatio)
	}
	boundaries, known := fields["boundaries"].(map[string]any)
	if !known {
		return nil, errors.New("measure.boundaries is not an object")
	}
	for name, value := range boundaries {
		latency := slices.Index(latencies[:], name)
		list, _ := value.([]any)
		if latency < 0 || len(list) == 0 || len(list) > maxBoundaries {
			return nil, fmt.Errorf("measure.boundaries.%.40s is not a latency with 1 to %d boundaries", name, maxBoundaries)
		}
		for i, item := range list {
			boundary, err := positive(item)
			if err != nil || i > 0 && boundary <= m.boundaries[latency][i-1] {
				return nil, fmt.Errorf("measure.boundaries.%s is not ascending numbers above 0", name)
			}
			m.boundaries[latency] = append(m.boundaries[latency], boundary)
		}
	}
	return m, nil
}

// promptOf returns the prompt of a revision as family@version; empty if it has none.
func (d *document) promptOf(revision string) string {
	for _, each := range d.revisions {
		if each.revision == revision {
			return each.prompt
		}
	}
	return ""
}

// bucketOf returns the bucket of a request: of its key if it has one, else a random one.
func (d *document) bucketOf(header http.Header) int {
	if d.keyHeader != "" {
		if values := header[d.keyHeader]; len(values) == 1 && values[0] != "" {
			return bucketOf(d.salt, values[0])
		}
	}
	// The Python middleware hashes eight random bytes with the salt; a uniform number is the same.
	return rand.IntN(documentParts)
}

// choose returns the revision of a request that falls into a bucket, a number from 0 to 9,999.
func (d *document) choose(bucket int) string {
	if len(d.revisions) == 2 && bucket < d.revisions[1].weight {
		return d.revisions[1].revision
	}
	return d.revisions[0].revision
}

// bucket is the number of the load bucket of a mean number of requests in the engine.
func (m *measure) bucket(load float64) int {
	if !(load >= m.from) {
		return 0
	}
	// The tolerance lets a load on a bucket's lower end belong to that bucket in spite of rounding.
	return int(min(loadBuckets-1, 1+math.Floor(math.Log(load/m.from)/math.Log(m.ratio)+1e-9)))
}

func integer(fields map[string]any, name string, least, most int) (int, error) {
	literal, _ := fields[name].(json.Number)
	value, err := strconv.Atoi(literal.String())
	if err != nil || value < least || value > most {
		return 0, fmt.Errorf("%s is not a whole number from %d to %d", name, least, most)
	}
	return value, nil
}

func positive(value any) (float64, error) {
	literal, _ := value.(json.Number)
	parsed, err := literal.Float64()
	if err != nil || !(parsed > 0) {
		return 0, errors.New("not a finite number above 0")
	}
	return parsed, nil
}

// appendCanonical writes a value as Python's json.dumps(value, sort_keys=True, separators=(",", ":"),
// ensure_ascii=False) does. Numbers stay as they are in the file: Serin's operator wrote them with json.dumps, and Go
// would format some floats differently (1e-05 as 0.00001 and 1.0 as 1).
func appendCanonical(text []byte, value any) []byte {
	switch v := value.(type) {
	case map[string]any:
		text = append(text, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				text = append(text, ',')
			}
			text = append(appendString(text, key), ':')
			text = appendCanonical(text, v[key])
		}
		return append(text, '}')
	case []any:
		text = append(text, '[')
		for i, item := range v {
			if i > 0 {
				text = append(text, ',')
			}
			text = appendCanonical(text, item)
		}
		return append(text, ']')
	case string:
		return appendString(text, v)
	case json.Number:
		return append(text, v...)
	case bool:
		return strconv.AppendBool(text, v)
	}
	return append(text, "null"...)
}

// appendString escapes quotes, backslashes and control characters only, as Python does.
func appendString(text []byte, value string) []byte {
	text = append(text, '"')
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			text = append(text, '\\', c)
		case c == '\n':
			text = append(text, `\n`...)
		case c == '\r':
			text = append(text, `\r`...)
		case c == '\t':
			text = append(text, `\t`...)
		case c == '\b':
			text = append(text, `\b`...)
		case c == '\f':
			text = append(text, `\f`...)
		case c < 0x20:
			text = fmt.Appendf(text, `\u%04x`, c)
		default:
			text = append(text, c)
		}
	}
	return append(text, '"')
}
