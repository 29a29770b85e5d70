variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "kubernetes_version" {
  description = "Version of the control plane."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of nodes and pods."
  type        = list(string)
}

variable "api_access_cidrs" {
  description = "From where the API is reached by internet; empty: not at all."
  type        = list(string)
}

variable "admin_role_arns" {
  description = "Who administers the cluster."
  type        = list(string)
}

variable "system_nodes" {
  description = "Nodes that are always there."
  type        = object({ instance_types = list(string), min = number, max = number })
}

variable "secrets_key_arn" {
  description = "Key of Kubernetes secrets."
  type        = string
}

variable "volumes_key_arn" {
  description = "Key of volumes."
  type        = string
}

variable "logs_key_arn" {
  description = "Key of the log groups."
  type        = string
}

variable "boundary_arn" {
  description = "Permissions boundary of the add-ons: the region policy."
  type        = string
}

variable "models" {
  description = "The bucket of models, and its key."
  type        = object({ bucket_arn = string, key_arn = string })
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
