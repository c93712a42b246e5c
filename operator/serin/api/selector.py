"""The grammar of a plain PromQL selector, used by the API to validate selectors and by the queries to Prometheus.

The pattern is valid RE2 and has no apostrophe, so that CEL can quote it.
"""

_SPACE = r"[ \t\r\n]*"
_STRING = r'"([^"\\\n]|\\[abfnrtv\\"])*"'
_MATCHER = rf"[a-zA-Z_][a-zA-Z0-9_]*{_SPACE}(=~|!~|!=|=){_SPACE}{_STRING}"
_MATCHERS = rf"{_MATCHER}({_SPACE},{_SPACE}{_MATCHER})*({_SPACE},)?"

PLAIN = rf"^{_SPACE}[a-zA-Z_:][a-zA-Z0-9_:]*{_SPACE}([{{]{_SPACE}({_MATCHERS})?{_SPACE}[}}]{_SPACE})?$"
"""Pattern of a metric name or `name{label="value", …}`, without range, function, operator or offset."""
