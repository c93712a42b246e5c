package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
)

// The checks of the split document. This server judges no answer: as many answers as it was told to have wrong keys and
// fail every check, by --check-fail-rate, or by the words check-fail-rate=0.3 in the prompt of a revision, which its pods
// may share with another one. A stream has the same words in any case.
const (
	maxChecks    = 16
	mostMessages = 4096 // of a prompt, searched for the words
)

var (
	checkName      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	checkKinds     = []string{"Schema", "Empty", "Truncated", "Repetition", "Refusal", "Regex", "Contains", "MaxChars"}
	checkResults   = [3]string{"pass", "fail", "skipped"}
	checkDirective = regexp.MustCompile(`check-fail-rate=([0-9.]+)`)
)

// checkCount holds the results of one check of one pair, by the index of the result.
type checkCount [len(checkResults)]uint64

// readChecks reads the checks: by name, the text of what each asks.
func readChecks(value any) (map[string]string, error) {
	list, isList := value.([]any)
	if !isList || len(list) > maxChecks {
		return nil, fmt.Errorf("checks is not a list of at most %d", maxChecks)
	}
	checks := map[string]string{}
	for _, item := range list {
		fields, _ := item.(map[string]any)
		name, _ := fields["name"].(string)
		kind, _ := fields["kind"].(string)
		if !checkName.MatchString(name) || !slices.Contains(checkKinds, kind) {
			return nil, errors.New("a check has no name of letters, digits and '-', or a kind that is not known")
		}
		if _, twice := checks[name]; twice {
			return nil, fmt.Errorf("two checks have the name %s", name)
		}
		checks[name] = string(appendCanonical(nil, fields))
	}
	return checks, nil
}

// promisedFails is the share of fails that the texts of a revision's prompts ask for; negative if they do not.
func promisedFails(prompts any) float64 {
	families, _ := prompts.(map[string]any)
	for _, family := range slices.Sorted(maps.Keys(families)) {
		fields, _ := families[family].(map[string]any)
		messages, _ := fields["messages"].([]any)
		for _, item := range messages[:min(len(messages), mostMessages)] {
			message, _ := item.(map[string]any)
			text, _ := message["content"].(string)
			if found := checkDirective.FindStringSubmatch(text); found != nil {
				if share, err := strconv.ParseFloat(found[1], 64); err == nil && share >= 0 && share <= 1 {
					return share
				}
			}
		}
	}
	return -1
}

// useChecks removes the series of checks that the document in force does not have, or that ask something else now, and
// gives a pair the series of the others, from 0 on.
func (m *measures) useChecks(d *document, p *pair) {
	var now map[string]string
	if d != nil {
		now = d.checks
	}
	if !maps.Equal(now, m.checks) {
		for name, text := range m.checks {
			if now[name] != text {
				for _, each := range m.pairs {
					delete(each.checks, name)
				}
			}
		}
		m.checks = now
	}
	for name := range now {
		if p != nil && p.checks[name] == nil {
			if p.checks == nil {
				p.checks = map[string]*checkCount{}
			}
			p.checks[name] = &checkCount{}
		}
	}
}

// chooseAnswer decides whether a complete answer is a wrong one: of any N of a pair, rate x N are, plus or minus one.
func (r *measured) chooseAnswer() bool {
	r.all.mutex.Lock()
	defer r.all.mutex.Unlock()
	rate := r.all.failRate
	if r.document != nil {
		if promised, known := r.document.fails[r.pair.identity.revision]; known {
			rate = promised
		}
	}
	r.pair.answers++
	if math.Floor(float64(r.pair.answers)*rate+roundingError) > float64(r.pair.wrong) {
		r.pair.wrong++
		r.wrong = true
	}
	return r.wrong
}

// countChecks counts the results of an answer with outcome ok.
func (r *measured) countChecks() {
	if r.document == nil {
		return
	}
	for name, text := range r.document.checks {
		count := r.pair.checks[name]
		if count == nil || r.all.checks[name] != text {
			continue
		}
		if r.wrong {
			count[1]++
		} else {
			count[0]++
		}
	}
}

func (m *measures) writeChecks(w io.Writer) {
	if len(m.checks) == 0 {
		return
	}
	fmt.Fprint(w, "# TYPE serin_checks_total counter\n")
	for id, p := range m.pairs {
		for name, count := range p.checks {
			for i, result := range checkResults {
				fmt.Fprintf(w, "serin_checks_total{check=%q,epoch=%q,result=%q,revision=%q} %d.0\n", name, id.epoch,
					result, id.revision, count[i])
			}
		}
	}
}
