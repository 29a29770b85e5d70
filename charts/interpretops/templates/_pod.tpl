{{- /* The parts that every pod of ours has. Each takes (root, component, facts, values). */ -}}

{{- define "interpretops.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "interpretops.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* (root, component, facts) → variables that come from the settings model, as a map. */ -}}
{{- define "interpretops.environment" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $facts := index . 2 -}}
{{- $values := $root.Values -}}
INTERPRETOPS_SECRETS_DIR: /run/secrets/interpretops
INTERPRETOPS_TELEMETRY__LOG_LEVEL: {{ $values.telemetry.logLevel }}
{{- if $values.telemetry.otlpEndpoint }}
INTERPRETOPS_TELEMETRY__OTLP_ENDPOINT: {{ $values.telemetry.otlpEndpoint }}
INTERPRETOPS_TELEMETRY__SAMPLE_RATIO: {{ $values.telemetry.sampleRatio | toString }}
{{- end }}
{{- if has "pepper" $facts.secrets }}
INTERPRETOPS_SECURITY__PEPPER_FILE: /run/secrets/interpretops/pepper
{{- end }}
{{- if has "master_key" $facts.secrets }}
{{- if $values.keys.kmsKeyId }}
INTERPRETOPS_SECURITY__MASTER_KEY_KMS: {{ $values.keys.kmsKeyId }}
{{- else }}
INTERPRETOPS_SECURITY__MASTER_KEY_FILE: /run/secrets/interpretops/master-key
{{- end }}
{{- end }}
{{- if has "identity_keys" $facts.secrets }}
INTERPRETOPS_GRPC__IDENTITY_KEYS: /run/secrets/interpretops/identity-keys
INTERPRETOPS_GRPC__PRODUCTION: "true"
{{- if $values.tls.enabled }}
INTERPRETOPS_GRPC__TLS__CERTIFICATE: /run/secrets/tls/tls.crt
INTERPRETOPS_GRPC__TLS__KEY: /run/secrets/tls/tls.key
INTERPRETOPS_GRPC__TLS__AUTHORITY: /run/secrets/tls/ca.crt
{{- end }}
{{- end }}
{{- if has "objects" $facts.reaches }}
INTERPRETOPS_OBJECTS__ENDPOINT: {{ include "interpretops.objectsEndpoint" $root }}
INTERPRETOPS_OBJECTS__BUCKET: {{ $values.objects.bucket }}
{{- with $values.objects.region }}
INTERPRETOPS_OBJECTS__REGION: {{ . }}
{{- end }}
INTERPRETOPS_OBJECTS__PATH_STYLE: {{ $values.objects.pathStyle | quote }}
INTERPRETOPS_OBJECTS__SSE: {{ $values.objects.sse }}
{{- if eq $values.objects.sse "kms" }}
INTERPRETOPS_OBJECTS__KMS_KEY_ID: {{ $values.objects.kmsKeyId }}
{{- end }}
{{- end }}
{{- if $facts.grpc }}
INTERPRETOPS_GRPC__PORT: {{ $facts.grpc | quote }}
INTERPRETOPS_GRPC__HEALTH_PORT: "50050"
{{- /* Balancers notice first that it is going, and only then calls are refused. */}}
INTERPRETOPS_GRPC__LAME_DUCK_SECONDS: "5"
{{- end }}
{{- if or $facts.grpc (eq $component "keeper") (hasPrefix "worker-" $component) }}
INTERPRETOPS_TELEMETRY__METRICS_HOST: 0.0.0.0
INTERPRETOPS_TELEMETRY__METRICS_PORT: "9464"
{{- end }}
{{- with $values.aws.region }}
AWS_REGION: {{ . }}
AWS_STS_REGIONAL_ENDPOINTS: regional
{{- end }}
{{- end -}}

{{- define "interpretops.objectsEndpoint" -}}
{{- if .Values.objects.bundled -}}
http://{{ include "interpretops.name" (list . "objects") }}:7070
{{- else if .Values.objects.endpoint -}}
{{ .Values.objects.endpoint }}
{{- else -}}
https://s3.{{ .Values.objects.region }}.amazonaws.com
{{- end -}}
{{- end -}}

{{- /* (root, component, facts) → mounts of a container. */ -}}
{{- define "interpretops.mounts" -}}
{{- $root := index . 0 -}}
{{- $facts := index . 2 -}}
{{- if ne (index . 1) "migrate" }}
- {name: settings, mountPath: /etc/interpretops, readOnly: true}
{{- end }}
- {name: secrets, mountPath: /run/secrets/interpretops, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /var/cache/interpretops}
{{- if and $root.Values.tls.enabled (has "identity_keys" $facts.secrets) }}
- {name: tls, mountPath: /run/secrets/tls, readOnly: true}
{{- end }}
{{- end -}}

{{- /* (root, component, facts, owner's secret or not) → volumes of a pod, but its cache. */ -}}
{{- define "interpretops.volumes" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $facts := index . 2 -}}
{{- if ne $component "migrate" }}
- name: settings
  configMap: {name: {{ include "interpretops.name" (list $root "settings") }}}
{{- end }}
- name: secrets
  {{- if eq $component "migrate" }}
  secret:
    secretName: {{ include "interpretops.ownerSecretName" $root }}
    defaultMode: 0440
    items:
      {{- range include "interpretops.ownerKeys" $root | fromYamlArray }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
  {{- else }}
  secret:
    secretName: {{ include "interpretops.secretName" $root }}
    defaultMode: 0440
    items:
      {{- $keys := include "interpretops.secretKeys" $root | fromYaml }}
      {{- range $facts.secrets }}
      {{- range index $keys . }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
      {{- end }}
  {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- if and $root.Values.tls.enabled (has "identity_keys" $facts.secrets) }}
- name: tls
  secret:
    secretName: {{ include "interpretops.name" (list $root $component) }}-tls
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- /* Waits until the database has the schema of this version or a newer one; (root, component). */ -}}
{{- define "interpretops.waitForSchema" -}}
{{- $root := index . 0 -}}
- name: wait-for-schema
  image: {{ include "interpretops.image" (list $root "platform") }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  args: [wait]
  env:
    - {name: INTERPRETOPS_SECRETS_DIR, value: /run/secrets/interpretops}
  resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {memory: 256Mi}}
  securityContext: {{- include "interpretops.containerSecurity" $root | nindent 4 }}
  volumeMounts:
    - {name: secrets, mountPath: /run/secrets/interpretops, readOnly: true}
    - {name: tmp, mountPath: /tmp}
    - {name: cache, mountPath: /var/cache/interpretops}
{{- end -}}

{{- /* A map as a container's list of variables. */ -}}
{{- define "interpretops.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{- /* Where pods of a component go; (root, component, values). */ -}}
{{- define "interpretops.placement" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $own := index . 2 -}}
{{- $shared := $root.Values.defaults -}}
{{- with merge (deepCopy (default dict $own.nodeSelector)) $shared.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (default list $own.tolerations) $shared.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $shared.affinity $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $shared.priorityClassName $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if $shared.spread.enabled }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $shared.spread.whenUnsatisfiable }}
    labelSelector:
      matchLabels: {{- include "interpretops.selector" (list $root $component) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{- /* Metadata of a pod; (root, component, values). A changed setting replaces it. */ -}}
{{- define "interpretops.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $own := index . 2 -}}
labels:
  # Without the chart's version, so that an upgrade leaves those alone that do not change.
  app.kubernetes.io/part-of: interpretops
  {{- include "interpretops.selector" (list $root $component) | nindent 2 }}
  {{- with $root.Values.defaults.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/settings: {{ include "interpretops.settings" $root | sha256sum }}
  {{- with merge (deepCopy (default dict $own.podAnnotations)) $root.Values.defaults.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "interpretops.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* What config.yaml holds. */ -}}
{{- define "interpretops.settings" -}}
{{- toYaml .Values.config -}}
{{- end -}}

{{- /* Where the edge finds each service, as gRPC names it. */ -}}
{{- define "interpretops.addresses" -}}
{{- range $name, $about := include "interpretops.facts" . | fromYaml }}
{{- if $about.grpc }}
{{ $name }}: dns:///{{ include "interpretops.name" (list $ $name) }}:{{ $about.grpc }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Resources, with the GPUs of `gpus`. There are no limits on CPU: they slow a program down while its
       node has cores to spare. */ -}}
{{- define "interpretops.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpus -}}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" (toString .gpus)) (default dict $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "interpretops.cacheVolume" -}}
{{- $volume := dict "sizeLimit" (default "1Gi" .size) -}}
{{- if .medium -}}{{- $_ := set $volume "medium" .medium -}}{{- end -}}
{{- toJson $volume -}}
{{- end -}}

{{- /* The cache of the model hub, where models are not fetched but found; (root, values). */ -}}
{{- define "interpretops.modelMount" -}}
{{- $models := default (dict "type" "none") (index . 1).models -}}
{{- if ne $models.type "none" -}}
- {name: models, mountPath: /var/cache/interpretops/hub, readOnly: {{ $models.readOnly }}}
{{- end -}}
{{- end -}}

{{- define "interpretops.modelVolume" -}}
{{- $models := default (dict "type" "none") (index . 1).models -}}
{{- if ne $models.type "none" -}}
- name: models
  persistentVolumeClaim:
    claimName: {{ ternary (include "interpretops.name" (list (index . 0) "models")) $models.claim (eq $models.type "s3") }}
    readOnly: {{ $models.readOnly }}
{{- end -}}
{{- end -}}

{{- /* Where pods go that run to their end. */ -}}
{{- define "interpretops.jobPlacement" -}}
{{- with .Values.defaults.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.defaults.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.defaults.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
