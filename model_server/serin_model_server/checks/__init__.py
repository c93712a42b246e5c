"""Checks: yes/no questions about answers, counted in serin_checks_total by revision and epoch.

The split document lists them. A request takes the list of its document; text is taken out of its response as the chunks
pass, bounded, and the checks run after the response has been sent. Nothing here delays or changes a response: an answer
that cannot be checked is counted as `skipped`. One module per kind, and these:

    answer       what a check sees of an answer, and the results
    empty, truncated, max_chars, contains       cheap kinds, which run in the event loop
    pattern, refusal, repetition, schema        kinds that can take long, which run in the child process
    kinds        the kinds by their names in the document
    document     the key `checks` of the split document
    texts        takes text and finish reason out of streams and whole answers
    child        the program of the child process
    process      the child process of an API server: one, behind a bounded queue, killed when a check takes too long
    series       serin_checks_total
    checker      runs the checks of one answer; what the middleware uses

`child` and the modules above `document` import nothing from outside of this package: the child process loads only them.
"""
