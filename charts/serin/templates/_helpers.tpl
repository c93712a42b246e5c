{{/* Names and labels. Selectors never contain a label that changes with the version. */}}

{{- define "serin.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "serin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "serin.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "serin.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of ClusterRoles, with the namespace, so that releases of the same name do not share them. */}}
{{- define "serin.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "serin.fullname" .) -}}
{{- end -}}

{{/* Prefix of the ClusterRoles for people: serin:operate. A release for some namespaces has its own. */}}
{{- define "serin.userRole" -}}
{{- .Values.watchNamespaces | empty | ternary (include "serin.fullname" .) (include "serin.clusterName" .) -}}
{{- end -}}

{{- define "serin.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "serin.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "serin.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "serin.selector" -}}
app.kubernetes.io/name: {{ include "serin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "serin.labels" -}}
{{ include "serin.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: serin
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* RBAC rules for the namespaces of LLMDeployments. tests/contract/test_chart.py compares them with the code. */}}
{{- define "serin.rules" -}}
# The operator reads and watches both kinds and writes only their status.
- apiGroups: [serin.dev]
  resources: [llmdeployments, promptversions]
  verbs: [get, list, watch]
- apiGroups: [serin.dev]
  resources: [llmdeployments/status, promptversions/status]
  verbs: [patch]
# Children set blockOwnerDeletion in their owner reference. Clusters with the admission plugin
# OwnerReferencesPermissionEnforcement (OpenShift) require this permission for it. The operator sets no finalizer.
- apiGroups: [serin.dev]
  resources: [llmdeployments/finalizers]
  verbs: [update]
# Children. Server-side apply needs patch, and create for objects that do not exist. A child that lost its label is not
# in the list, so the operator reads it by name.
- apiGroups: [apps]
  resources: [controllerrevisions, deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# The trial state, and one split document per engine revision.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# Only Secrets that an LLMDeployment names in spec.analysis.prometheus.authSecretRef are read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# The operator never deletes the route; garbage collection deletes it with its LLMDeployment.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch]
# The annotation serin.dev/split makes the kubelet deliver a changed split document at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# A pod that does not switch after a rollback is evicted, as far as its PodDisruptionBudget permits.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/*
The counter of finished requests of a gateway: one series per Service and exact response code. Sources:
- contour: AltStatName in projectcontour/contour internal/envoy/cluster.go is <namespace>_<service>_<port>; Envoy has the
  tags envoy_cluster_name and envoy_response_code. Run: Contour 1.33, Envoy 1.40.
- istio: https://istio.io/latest/docs/reference/config/metrics. reporter="source" is the gateway's own view; sidecars of
  the engine pods report the same requests as "destination". Assumes the domain cluster.local. Not run.
- traefik: pkg/metrics/prometheus.go of traefik/traefik (labels code, method, protocol, service). Since 3.7.6 the label
  `service` names route, rule and a hash as well, so Prometheus must make the label `backend` of it
  (docs/how-to/gateways.md). Run: Traefik 3.7.15.
- envoyGateway: one Envoy cluster per rule of an HTTPRoute (envoy_cluster_name="httproute/<namespace>/<name>/rule/<n>"),
  so stable and canary share a counter, and no setting can separate them. As none: no series has this name.
*/}}
{{- define "serin.gateway" -}}
{{- $gateway := .Values.prometheus.gateway -}}
{{- if eq $gateway "istio" -}}
metric: 'istio_requests_total{reporter="source"}'
backendLabel: destination_service
codeLabel: response_code
backend: "{service}.{namespace}.svc.cluster.local"
{{- else if eq $gateway "traefik" -}}
metric: traefik_service_requests_total
backendLabel: backend
codeLabel: code
backend: "{namespace}-{service}"
{{- else -}}
metric: {{ eq $gateway "contour" | ternary "envoy_cluster_upstream_rq" "none" }}
backendLabel: envoy_cluster_name
codeLabel: envoy_response_code
backend: "{namespace}_{service}_{port}"
{{- end -}}
{{- end -}}

{{/* The gateway's counter, that of the values or of the preset, from the gateway's own target alone. */}}
{{- define "serin.requestsMetric" -}}
{{- $root := first . -}}
{{- $written := last . -}}
{{- $metric := $written | default (include "serin.gateway" $root | fromYaml).metric -}}
{{- $matchers := $root.Values.prometheus.requests.matchers | trimSuffix "," -}}
{{- if eq $metric "none" -}}
{{- $metric -}}
{{- else if $matchers -}}
{{- contains "{" $metric | ternary (printf "%s,%s}" (trimSuffix "}" $metric) $matchers) (printf "%s{%s}" $metric $matchers) -}}
{{- else if contains "{" $written -}}
{{- $metric -}}
{{- else -}}
{{- fail "prometheus.requests.matchers is empty, so any pod that Prometheus scrapes could export the gateway's counter; set it to the gateway's own target, such as job=\"envoy\", or set prometheus.gateway=none" -}}
{{- end -}}
{{- end -}}
