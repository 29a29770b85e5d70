variable "name" {
  description = "Prefix of the roles."
  type        = string
}

variable "namespace" {
  description = "Namespace of the release."
  type        = string
}

variable "release" {
  description = "Name of the Helm release, which its service accounts begin with."
  type        = string
}

variable "cluster_name" {
  description = "Name of the cluster."
  type        = string
}

variable "cluster_arn" {
  description = "ARN of the cluster; roles are taken from it only."
  type        = string
}

variable "oidc_provider_arn" {
  description = "Issuer of service-account tokens (IRSA)."
  type        = string
}

variable "boundary_arn" {
  description = "Permissions boundary: the region policy."
  type        = string
}

variable "bucket_arns" {
  description = "ARN of each bucket."
  type        = map(string)
}

variable "data_key_arn" {
  description = "Key of the buckets."
  type        = string
}

variable "tenants_key_arn" {
  description = "Key that wraps the data keys of tenants."
  type        = string
}

variable "secret_arn" {
  description = "The secret with the platform's passwords and keys."
  type        = string
}

variable "secrets_key_arn" {
  description = "Key of that secret."
  type        = string
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
