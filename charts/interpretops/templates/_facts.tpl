{{- /*
What each program is: its image, its command, which secrets it is given, what it listens on and what it
reaches. Deployments, service accounts and network policies all come from this one table.

  image    target of deploy/images/Dockerfile
  args     after the image's entrypoint
  account  whose service account it runs under; default: its own
  secrets  groups of keys of the Secret, see interpretops.secretKeys
  grpc     port of its gRPC server
  http     port of its HTTP server
  reaches  what it opens connections to: other programs, and database, redis, objects, cloud, hub,
           identity, kubernetes, collector
*/ -}}
{{- define "interpretops.facts" -}}
edge:
  image: edge
  args: []
  secrets: [database_app, redis, objects, pepper, master_key, identity_keys]
  http: 8080
  reaches: [tracer, sae_trainer, circuit_search, steering_gateway, evaluator, reporter, database, redis, objects, cloud, identity, collector]
dashboard:
  image: dashboard
  args: []
  secrets: [dashboard]
  http: 8090
  reaches: [edge, identity]
tracer:
  image: tracer
  args: [serve, tracer]
  secrets: [database_app, identity_keys]
  grpc: 50051
  reaches: [database, collector]
sae_trainer:
  image: sae-trainer
  args: [serve, sae_trainer]
  secrets: [database_app, identity_keys]
  grpc: 50052
  reaches: [database, collector]
circuit_search:
  image: circuit-search
  args: [serve, circuit_search]
  secrets: [database_app, identity_keys]
  grpc: 50053
  reaches: [database, collector]
steering_gateway:
  image: steering-gateway
  args: [serve, steering_gateway]
  secrets: [database_app, objects, master_key, identity_keys]
  grpc: 50054
  reaches: [database, objects, cloud, hub, collector]
evaluator:
  image: evaluator
  args: [serve, evaluator]
  secrets: [database_app, identity_keys]
  grpc: 50055
  reaches: [database, collector]
reporter:
  image: reporter
  args: [serve, reporter]
  secrets: [database_app, identity_keys]
  grpc: 50056
  reaches: [database, collector]
keeper:
  image: platform
  args: [keep]
  # The pepper is for `found`, which is run in this pod to make a tenant.
  secrets: [database_app, database_system, redis, objects, pepper, master_key]
  reaches: [database, redis, objects, cloud, collector]
worker:
  image: worker
  args: [work]
  secrets: [database_app, database_system, redis, objects, master_key]
  reaches: [database, redis, objects, cloud, hub, kubernetes, collector]
migrate:
  image: platform
  args: [{{ ternary "prepare" "migrate" .Values.objects.bundled }}]
  secrets: []
  reaches: [database{{ if .Values.objects.bundled }}, objects{{ end }}]
retention:
  image: platform
  args: [retain]
  account: keeper  # what it does, keepers do too
  secrets: [database_app, database_system, objects, master_key]
  reaches: [database, objects, cloud]
nightly:
  image: platform
  args: [nightly]
  secrets: [database_app, database_system]
  reaches: [database]
{{- end -}}

{{- /* The pod of `helm test`: it founds a tenant, unless it is given a key, and calls the edge. */ -}}
{{- define "interpretops.smokeFacts" -}}
image: platform
args: []
secrets: {{ if .Values.tests.keySecret }}[]{{ else }}[database_app, database_system, pepper, master_key]{{ end }}
reaches: [edge{{ if not .Values.tests.keySecret }}, database, cloud{{ end }}]
{{- end -}}

{{- /* Keys of the Secret by group. A key that is named as a variable is a setting, the others are files. */ -}}
{{- define "interpretops.secretKeys" -}}
database_app: [interpretops_database__app_dsn]
database_system: [interpretops_database__system_dsn]
redis: [interpretops_redis__url]
objects: {{ if eq .Values.objects.credentials "keys" }}[interpretops_objects__access_key, interpretops_objects__secret_key]{{ else }}[]{{ end }}
pepper: [pepper]
master_key: {{ if .Values.keys.kmsKeyId }}[]{{ else }}[master-key]{{ end }}
identity_keys: [identity-keys]
dashboard: [session-keys{{ if .Values.dashboard.oidcClientSecret }}, interpretops_dashboard__oidc__client_secret{{ end }}]
scaler: {{ if .Values.scaling.enabled }}[scaler-dsn]{{ else }}[]{{ end }}
{{- end -}}

{{- define "interpretops.ownerKeys" -}}
- interpretops_database__owner_dsn
- interpretops_database__app_password
- interpretops_database__system_password
{{- if .Values.scaling.enabled }}
- interpretops_database__scaler_password
{{- end }}
{{- if and .Values.objects.bundled (eq .Values.objects.credentials "keys") }}
- interpretops_objects__access_key
- interpretops_objects__secret_key
{{- end }}
{{- end -}}
