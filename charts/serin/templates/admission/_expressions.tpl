{{/*
CEL expressions that several policies use. `dyn` keeps the type checker from looking for a field that only some of the
matched kinds have.
*/}}

{{/* Name of a policy and of its binding: the namespace has no dot, so two releases never share one. */}}
{{- define "serin.policy" -}}
{{- printf "%s-%s.%s" (include "serin.fullname" .root) .policy .root.Release.Namespace -}}
{{- end -}}

{{- define "serin.account" -}}
{{- printf "system:serviceaccount:%s:%s" .Release.Namespace (include "serin.serviceAccount" .) -}}
{{- end -}}

{{/* A binding that denies; with watchNamespaces only there, so that releases beside each other do not mix. */}}
{{- define "serin.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "serin.policy" . }}
  labels:
    {{- include "serin.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "serin.policy" . }}
  validationActions: [Deny]
  {{- if and .scoped .root.Values.watchNamespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
        - key: kubernetes.io/metadata.name
          operator: In
          values: {{ toJson .root.Values.watchNamespaces }}
  {{- end }}
{{- end -}}

{{/* Whether an object names an LLMDeployment as an owner. */}}
{{- define "serin.isOwned" -}}
dyn({{ . }}).metadata.?ownerReferences.orValue([]).exists(r, r.kind == 'LLMDeployment' && r.apiVersion.startsWith('serin.dev/'))
{{- end -}}

{{/* Whether the label, or the field manager of an apply, says that Serin made an object; then it may be adopted. */}}
{{- define "serin.isMarked" -}}
(dyn({{ . }}).metadata.?labels[?'serin.dev/deployment'].hasValue() || dyn({{ . }}).metadata.?managedFields.orValue([]).exists(f, f.?manager.orValue('') == 'serin' && f.?operation.orValue('') == 'Apply'))
{{- end -}}

{{/* Whether the pods of a workload have Serin's label, or the object itself is one of Serin's. */}}
{{- define "serin.isOurs" -}}
({{ . }} != null && ({{ include "serin.isOwned" . }} || {{ include "serin.isMarked" . }} || dyn({{ . }}).?spec.?template.?metadata.?labels[?'serin.dev/deployment'].hasValue()))
{{- end -}}
