{{/* Names and labels. A label that changes with the version is never in a selector. */}}

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

{{/* ClusterRoles have no namespace: two releases of the same name must not share them. */}}
{{- define "serin.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "serin.fullname" .) -}}
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

{{/* What the operator may do where LLMDeployments are. tests/contract/test_chart.py compares it with the code. */}}
{{- define "serin.rules" -}}
# Read and watched; only their status is written.
- apiGroups: [serin.dev]
  resources: [llmdeployments, promptversions]
  verbs: [get, list, watch]
- apiGroups: [serin.dev]
  resources: [llmdeployments/status, promptversions/status]
  verbs: [patch]
# Children name their LLMDeployment as the owner that blocks its deletion, which clusters with the admission plugin
# OwnerReferencesPermissionEnforcement (OpenShift) allow only to whoever may change the owner's finalizers. None is set.
- apiGroups: [serin.dev]
  resources: [llmdeployments/finalizers]
  verbs: [update]
# The children. Server-side apply is a patch, and a create for what does not exist.
- apiGroups: [apps]
  resources: [controllerrevisions, deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch, delete]
# The state of the evidence.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
# Credentials for a Prometheus that an LLMDeployment names in spec.analysis.prometheus.authSecretRef; no other is read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
# Never deleted: it goes with its LLMDeployment.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
