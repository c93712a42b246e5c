"""Applies the prompt of a revision to requests, before vLLM reads them.

Pure but for `stage`: a checked prompt and the bytes of a request's body go in; new bytes or a refusal come out. Bodies
are spliced: only what must change is encoded anew, so a conversation of 512 KB costs less than a millisecond. What is
not known to be safe is refused, because vLLM accepts unknown fields in silence. One module per concern:

    refusal     why a request is not answered, and how each API says so
    template    the text of a message with placeholders
    special     the tokenizer's special tokens, which no variable may bring in
    prompt      a prompt as the split document has it, checked
    paths       which paths are prompted, passed on or refused
    fields      which fields of a body are safe, and which parameters an endpoint has
    body        the top level of a JSON body as undecoded values
    variables   the values that a request gives to the prompt's variables
    history     the prompt's messages and the client's in one list
    settings    parameters, tools and the output schema of a prompt, as an endpoint has them
    chat        chat completions
    responses   the Responses API
    messages    Anthropic's messages
    apply       one request's body by its path
    stage       the ASGI stage between the middleware's shell and vLLM

A module imports only modules above it in this list. Source of every fact about vLLM: vLLM 0.32.
"""
