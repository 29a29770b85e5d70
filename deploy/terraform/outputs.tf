output "cluster_name" {
  description = "For `aws eks update-kubeconfig`."
  value       = module.cluster.name
}

output "karpenter_manifests" {
  description = "EC2NodeClass and NodePool: terraform output -raw karpenter_manifests | kubectl apply -f -"
  value       = module.karpenter.manifests
}

output "karpenter_queue" {
  description = "Karpenter's setting interruptionQueue."
  value       = module.karpenter.queue_name
}

output "registry" {
  description = "Where images are pushed to and pulled from."
  value       = module.registry.prefix
}

output "buckets" {
  description = "Names of the buckets."
  value       = module.storage.names
}

output "role_arns" {
  description = "Role of each service account."
  value       = module.access.role_arns
}

output "data_key_arn" {
  description = "Key of the buckets: objects.kms_key_id."
  value       = module.key["data"].arn
}

output "tenants_key_arn" {
  description = "Key that wraps the data keys of tenants: security.master_key_kms."
  value       = module.key["tenants"].arn
}

output "secret_name" {
  description = "The secret that External Secrets reads."
  value       = module.secrets.platform.name
}
