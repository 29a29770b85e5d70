output "cluster_name" {
  description = "For `aws eks update-kubeconfig`."
  value       = module.cluster.name
}

output "vpc_id" {
  description = "For the load balancer controller."
  value       = module.network.vpc_id
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

output "values" {
  description = "What only this installation knows, for the chart: terraform output -raw values > mine.yaml"
  value = yamlencode({
    image    = { registry = trimsuffix(module.registry.prefix, "/${var.name}/"), repository = var.name }
    database = { host = module.database.host }
    objects  = { region = var.region, bucket = module.storage.names.artifacts, kmsKeyId = module.key["data"].arn }
    keys     = { kmsKeyId = module.key["tenants"].arn }
    aws      = { region = var.region }
    models   = { s3 = { bucket = module.storage.names.models, region = var.region } }
    config   = { audit = { anchor_bucket = module.storage.names.anchors } }
    networkPolicy = {
      ingressFrom = [{ ipBlock = { cidr = var.vpc_cidr } }]
      cidrs = {
        database   = [var.vpc_cidr], redis = [var.vpc_cidr], objects = [var.vpc_cidr], cloud = [var.vpc_cidr],
        kubernetes = [var.vpc_cidr, "172.20.0.0/16"]
      }
    }
    secrets = { external = { key = module.secrets.platform.name, ownerKey = module.secrets.platform.name } }
  })
}
