"""What a plain PromQL selector is: the one grammar for the API, which refuses others, and for whoever asks Prometheus.

Within RE2 and without an apostrophe, so that CEL can quote it.
"""

_SPACE = r"[ \t\r\n]*"
_STRING = r'"([^"\\\n]|\\[abfnrtv\\"])*"'
_MATCHER = rf"[a-zA-Z_][a-zA-Z0-9_]*{_SPACE}(=~|!~|!=|=){_SPACE}{_STRING}"
_MATCHERS = rf"{_MATCHER}({_SPACE},{_SPACE}{_MATCHER})*({_SPACE},)?"

PLAIN = rf"^{_SPACE}[a-zA-Z_:][a-zA-Z0-9_:]*{_SPACE}([{{]{_SPACE}({_MATCHERS})?{_SPACE}[}}]{_SPACE})?$"
"""A metric's name, or `name{label="value", …}`, as Prometheus reads them: no range, function, operator or offset."""
