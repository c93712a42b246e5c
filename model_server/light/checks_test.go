package main

import (
	"fmt"
	"strings"
	"testing"
)

const twoChecks = `"checks":[{"name":"schema","kind":"Schema"},{"name":"short","kind":"MaxChars","maxChars":5}]`

func checkLine(check, epoch, result, revision string, count int) string {
	return fmt.Sprintf(`serin_checks_total{check=%q,epoch=%q,result=%q,revision=%q} %d.0`, check, epoch, result, revision, count)
}

func TestShareOfFailsIsExact(t *testing.T) {
	_, server := serve(t, mounted(t, documentText(t, `{"epoch":9,`+twoChecks+`}`)), "--check-fail-rate=0.3")
	for range 50 {
		stamped(t, server.URL+chatPath, `{}`, nil)
	}
	wants(t, get(t, server.URL+"/metrics"), checkLine("schema", "9", "pass", "88e4b76379", 35),
		checkLine("schema", "9", "fail", "88e4b76379", 15), checkLine("short", "9", "fail", "88e4b76379", 15),
		checkLine("short", "9", "skipped", "88e4b76379", 0))
}

func TestPromptOfARevisionSaysItsShareOfFails(t *testing.T) {
	revisions := `"revisions":[{"revision":"88e4b76379","weight":0},{"revision":"15f6a8e5fc","weight":10000,
		"prompts":{"triage":{"messages":[{"placeholder":"history"},{"role":"system","content":"Triage. check-fail-rate=0.5"}]}}}]`
	s := mounted(t, documentText(t, `{"epoch":9,`+revisions+`,`+twoChecks+`}`))
	_, server := serve(t, s, "--check-fail-rate", "0.1")
	for range 20 {
		stamped(t, server.URL+chatPath, `{}`, nil)
	}
	wants(t, get(t, server.URL+"/metrics"), checkLine("schema", "9", "fail", "15f6a8e5fc", 10))
	write(t, s.path, documentText(t, `{"epoch":10,`+strings.NewReplacer(`"weight":0`, `"weight":10000`, `"weight":10000`, `"weight":0`).Replace(revisions)+`,`+twoChecks+`}`))
	s.load()
	for range 20 {
		stamped(t, server.URL+chatPath, `{}`, nil)
	}
	wants(t, get(t, server.URL+"/metrics"), checkLine("schema", "10", "fail", "88e4b76379", 2), checkLine("schema", "10", "pass", "88e4b76379", 18))
}

func TestAnswersThatFailChecksHaveWrongKeys(t *testing.T) {
	for rate, key := range map[string]string{"0": "queue", "1": "team"} {
		_, server := serve(t, mounted(t, documentText(t, `{"epoch":9,`+twoChecks+`}`)), "--check-fail-rate", rate)
		for _, path := range []string{chatPath, completionsPath} {
			status, text := post(t, server.URL+path, `{}`)
			if status != 200 || !strings.Contains(text, `\"`+key+`\":`) {
				t.Errorf("at %s: status %d, %s", rate, status, text)
			}
		}
	}
}

func TestOnlyGoodAnswersAreChecked(t *testing.T) {
	_, server := serve(t, mounted(t, documentText(t, `{"epoch":9,`+twoChecks+`}`)), "--error-rate=1")
	stamped(t, server.URL+chatPath, `{}`, nil)
	wants(t, get(t, server.URL+"/metrics"), checkLine("schema", "9", "pass", "88e4b76379", 0), checkLine("schema", "9", "fail", "88e4b76379", 0))
}

func TestChecksComeAndGoWithTheDocument(t *testing.T) {
	s := mounted(t, documentText(t, `{"epoch":9,`+twoChecks+`}`))
	_, server := serve(t, s)
	stamped(t, server.URL+chatPath, `{}`, nil)
	write(t, s.path, documentText(t, `{"epoch":9,`+strings.Replace(twoChecks, `"maxChars":5`, `"maxChars":6`, 1)+`}`))
	s.load()
	page := get(t, server.URL+"/metrics")
	wants(t, page, checkLine("schema", "9", "pass", "88e4b76379", 1))
	if strings.Contains(page, `check="short"`) {
		t.Error("a check that asks something else keeps its counts")
	}
	stamped(t, server.URL+chatPath, `{}`, nil)
	wants(t, get(t, server.URL+"/metrics"), checkLine("short", "9", "pass", "88e4b76379", 1), checkLine("schema", "9", "pass", "88e4b76379", 2))
	write(t, s.path, documentText(t, `{"epoch":9}`))
	s.load()
	if strings.Contains(get(t, server.URL+"/metrics"), "serin_checks_total") {
		t.Error("a document without checks leaves series")
	}
}

func TestInvalidChecksAreRefused(t *testing.T) {
	many := make([]string, maxChecks+1)
	for i := range many {
		many[i] = fmt.Sprintf(`{"name":"c%d","kind":"Empty"}`, i)
	}
	for _, checks := range []string{`{}`, `[1]`, `[{"kind":"Empty"}]`, `[{"name":"A","kind":"Empty"}]`, `[{"name":"a","kind":"Other"}]`,
		`[{"name":"a","kind":"Empty"},{"name":"a","kind":"Empty"}]`, "[" + strings.Join(many, ",") + "]"} {
		if _, err := parseDocument(documentText(t, `{"checks":`+checks+`}`)); err == nil {
			t.Errorf("%.80s is accepted", checks)
		}
	}
	for _, rate := range []string{"-0.1", "1.1", "x"} {
		if _, err := parse([]string{"triage", "--check-fail-rate=" + rate}); err == nil {
			t.Errorf("a share of %s is accepted", rate)
		}
	}
}
