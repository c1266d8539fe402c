{{- define "resnet.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "resnet.selector" -}}
app.kubernetes.io/name: resnet-server
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "resnet.labels" -}}
{{ include "resnet.selector" . }}
app.kubernetes.io/part-of: resnet-serving
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "resnet.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "resnet.repository" -}}
{{- if eq .Values.repository.kind "path" }}{{ .Values.repository.path }}
{{- else if eq .Values.repository.kind "image" }}/repository/models
{{- else }}/repository{{ end }}
{{- end }}

{{- define "resnet.scaling" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 4, periodSeconds: 15}
  selectPolicy: Max
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - {type: Percent, value: 25, periodSeconds: 60}
{{- end }}

{{- define "resnet.resources" -}}
cpu: {{ .Values.resources.cpu | quote }}
memory: {{ .Values.resources.memory }}
{{- if eq .Values.server.device "cuda" }}
nvidia.com/gpu: {{ .Values.resources.gpus | quote }}
{{- end }}
{{- end }}

{{- /* The port of probes: their own, without TLS and tokens, as soon as callers need either. */}}
{{- define "resnet.probed" -}}
{{- if or .Values.security.tlsSecret .Values.security.tokensSecret }}8003{{ else }}8001{{ end }}
{{- end }}

{{- define "resnet.grpcProtocol" -}}
{{- if .Values.security.tlsSecret }}https{{ else }}kubernetes.io/h2c{{ end }}
{{- end }}
