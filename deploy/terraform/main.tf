# The whole installation on AWS, from the network to the roles of pods. The Helm chart goes on top.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  where = {
    partition = data.aws_partition.current.partition
    account   = data.aws_caller_identity.current.account_id
    region    = var.region
  }
  images = [
    "platform", "edge", "dashboard", "tracer", "sae-trainer", "circuit-search", "evaluator", "reporter",
    "steering-gateway", "worker",
  ]
}

# A key for each purpose, so that who may read logs may not open data.
module "key" {
  source = "./modules/key"
  for_each = {
    data    = []
    tenants = []
    secrets = []
    logs    = ["logs.${var.region}.amazonaws.com", "delivery.logs.amazonaws.com"]
    volumes = []
    stores  = []
  }

  name     = var.name
  purpose  = each.key
  services = each.value
  where    = local.where
}

module "network" {
  source = "./modules/network"

  name         = var.name
  cidr         = var.vpc_cidr
  zones        = var.availability_zones
  nat_per_zone = var.nat_gateway_per_zone
  logs_key_arn = module.key["logs"].arn
  where        = local.where
}

module "residency" {
  source = "./modules/residency"

  name                   = var.name
  organization_target_id = var.organization_target_id
  where                  = local.where
}

module "cluster" {
  source = "./modules/cluster"

  name               = var.name
  kubernetes_version = var.kubernetes_version
  subnet_ids         = module.network.pod_subnet_ids
  api_access_cidrs   = var.api_access_cidrs
  admin_role_arns    = var.admin_role_arns
  system_nodes       = var.system_nodes
  boundary_arn       = module.residency.boundary_arn
  models             = { bucket_arn = module.storage.arns.models, key_arn = module.key["data"].arn }
  secrets_key_arn    = module.key["secrets"].arn
  volumes_key_arn    = module.key["volumes"].arn
  logs_key_arn       = module.key["logs"].arn
  where              = local.where
}

module "karpenter" {
  source = "./modules/karpenter"

  cluster_name         = module.cluster.name
  cluster_arn          = module.cluster.arn
  node_role            = module.cluster.node_role
  boundary_arn         = module.residency.boundary_arn
  volumes_key_arn      = module.key["volumes"].arn
  bottlerocket_version = var.bottlerocket_version
  gpu                  = var.gpu
  general              = var.general
  where                = local.where
}

module "load_balancer" {
  source = "./modules/load_balancer"

  cluster_name           = module.cluster.name
  node_security_group_id = module.cluster.security_group_id
  boundary_arn           = module.residency.boundary_arn
  where                  = local.where
}

module "secrets" {
  source = "./modules/secrets"

  name             = var.name
  revision         = var.secrets_revision
  database_address = module.database.address
  broker_address   = module.broker.address
  broker_token     = var.broker_token
  key_arn          = module.key["secrets"].arn
}

module "database" {
  source = "./modules/database"

  name                     = var.name
  database                 = var.database
  owner_password           = module.secrets.owner_password
  owner_password_version   = var.secrets_revision
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.store_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  key_arn                  = module.key["stores"].arn
  logs_key_arn             = module.key["logs"].arn
  where                    = local.where
}

module "broker" {
  source = "./modules/broker"

  name                     = var.name
  broker                   = var.broker
  token                    = var.broker_token
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.store_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  key_arn                  = module.key["stores"].arn
  logs_key_arn             = module.key["logs"].arn
}

module "storage" {
  source = "./modules/storage"

  name                  = var.name
  key_arn               = module.key["data"].arn
  endpoint_id           = module.network.s3_endpoint_id
  break_glass_role_arns = var.break_glass_role_arns
  anchor_days           = var.audit_anchor_days
  noncurrent_days       = var.noncurrent_days
  where                 = local.where
}

module "registry" {
  source = "./modules/registry"

  name    = var.name
  images  = local.images
  key_arn = module.key["stores"].arn
}

module "access" {
  source = "./modules/access"

  name              = var.name
  namespace         = var.namespace
  release           = var.release
  cluster_name      = module.cluster.name
  cluster_arn       = module.cluster.arn
  oidc_provider_arn = module.cluster.oidc_provider_arn
  boundary_arn      = module.residency.boundary_arn
  bucket_arns       = module.storage.arns
  data_key_arn      = module.key["data"].arn
  tenants_key_arn   = module.key["tenants"].arn
  secret_arn        = module.secrets.platform.arn
  secrets_key_arn   = module.key["secrets"].arn
  where             = local.where
}
