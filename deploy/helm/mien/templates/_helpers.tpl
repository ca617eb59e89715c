{{- define "mien.name" -}}
{{ printf "%s-%s" .root.Release.Name .service | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "mien.labels" -}}
app.kubernetes.io/name: mien
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{/* What is rendered for a service, as JSON: its values, ports, and whether it can have replicas. */}}
{{- define "mien.service" -}}
{{- $ports := dict "gateway" (list 8000 50051) "embedding" (list 8001 50052) "enhancement" (list 8002 50053) "mapping" (list 8003 50054) }}
{{- $own := index .root.Values .service }}
{{- $scaled := or $own.autoscaling.enabled (dig "keda" "enabled" false $own) }}
{{- dict "own" $own "http" (index $ports .service | first) "grpc" (index $ports .service | last) "scaled" $scaled "several" (or $scaled (gt (int $own.replicas) 1)) | toJson }}
{{- end }}

{{/* The services that are on, as a JSON list. */}}
{{- define "mien.services" -}}
{{- $on := list "gateway" "embedding" }}
{{- range list "enhancement" "mapping" }}
{{- if (index $.Values .).enabled }}{{ $on = append $on . }}{{ end }}
{{- end }}
{{- $on | toJson }}
{{- end }}

{{- define "mien.embedded" -}}
{{- if not .Values.gallery.uri }}yes{{ end }}
{{- end }}

{{- define "mien.image" -}}
{{- $image := .root.Values.image }}
{{- $tag := $image.tag | default .root.Chart.AppVersion }}
{{- if gt (int (dig "gpus" 0 .own)) 0 }}{{ $tag = $image.gpuTag | default (printf "%s-gpu" $tag) }}{{ end }}
{{- printf "%s:%s" $image.repository $tag }}
{{- end }}
