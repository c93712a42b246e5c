// The process that holds a pod's namespaces.
module serin.dev/sandbox/tools/pause

go 1.24
