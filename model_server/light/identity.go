package main

import (
	"crypto/subtle"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

const (
	revisionHeader = "X-Serin-Revision"
	epochHeader    = "X-Serin-Epoch"
	promptHeader   = "X-Serin-Prompt"
	epochs         = 32
	none           = "none"
)

var revisionForm = regexp.MustCompile(`^[0-9a-f]{10}$`)

// identity is the two labels of every series.
type identity struct{ revision, epoch string }

// unstamped is the identity of a request that no split has handled.
var unstamped = identity{none, none}

// identify reads the headers that each backend's filter sets for pods without a split document. It requires one
// well-formed value per header; all other requests are unstamped.
func identify(header http.Header) identity {
	revisions, epochValues := header.Values(revisionHeader), header.Values(epochHeader)
	if len(revisions) != 1 || len(epochValues) != 1 || !revisionForm.MatchString(revisions[0]) || !isEpoch(epochValues[0]) {
		return unstamped
	}
	return identity{revisions[0], epochValues[0]}
}

// stampedEpoch reads the header `<epoch>.<token>` that the route sets where the gateway splits; `none` without exactly
// one, or with another token.
func stampedEpoch(header http.Header, token string) string {
	values := header.Values(epochHeader)
	if len(values) != 1 {
		return none
	}
	epoch, stamp, _ := strings.Cut(values[0], ".")
	if !isEpoch(epoch) || subtle.ConstantTimeCompare([]byte(stamp), []byte(token)) != 1 {
		return none
	}
	return epoch
}

func isEpoch(text string) bool {
	number, err := strconv.Atoi(text)
	return err == nil && number >= 0 && number < epochs && strconv.Itoa(number) == text
}
