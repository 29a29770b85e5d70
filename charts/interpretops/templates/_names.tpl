{{- /* What things are called, and the labels that say to what they belong. */ -}}

{{- define "interpretops.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* (root, component) → name of an object; what the settings write with "_" has "-" here. */ -}}
{{- define "interpretops.name" -}}
{{- printf "%s-%s" (include "interpretops.fullname" (index . 0)) (index . 1 | replace "_" "-") -}}
{{- end -}}

{{- define "interpretops.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 | replace "_" "-" }}
{{- end -}}

{{- define "interpretops.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: interpretops
{{ include "interpretops.selector" . }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* (root, name) → reference of an image of ours. */ -}}
{{- define "interpretops.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $image := $root.Values.image -}}
{{- $path := compact (list $image.registry $image.repository $name) | join "/" -}}
{{- $digest := index $image.digests $name -}}
{{- if $digest -}}
{{- printf "%s@%s" $path $digest -}}
{{- else if $image.requireDigests -}}
{{- fail (printf "image.requireDigests is true and %s has none: set image.digests.%s to sha256:…" $name $name) -}}
{{- else -}}
{{- printf "%s:%s" $path (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "interpretops.secretName" -}}
{{- default (include "interpretops.name" (list . "secrets")) .Values.secrets.name -}}
{{- end -}}

{{- define "interpretops.ownerSecretName" -}}
{{- default (include "interpretops.name" (list . "owner")) .Values.secrets.ownerName -}}
{{- end -}}

{{- /* The deployments of jobs' workers, each with what it leaves to the defaults. */ -}}
{{- define "interpretops.workers" -}}
{{- $found := dict -}}
{{- range $name, $own := .Values.workers -}}
{{- $worker := mergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy (default dict $own)) -}}
{{- /* A selector is one's own or the defaults', so that one can be taken back. */ -}}
{{- if hasKey (default dict $own) "nodeSelector" -}}{{- $_ := set $worker "nodeSelector" $own.nodeSelector -}}{{- end -}}
{{- if $worker.enabled -}}
{{- $_ := set $found $name $worker -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
