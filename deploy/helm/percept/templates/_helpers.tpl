{{- define "percept.name" -}}
{{- printf "%s-percept" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "percept.selector" -}}
app.kubernetes.io/name: percept
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "percept.labels" -}}
{{ include "percept.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "percept.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}
