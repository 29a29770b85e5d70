variable "cluster_name" {
  description = "Name of the cluster."
  type        = string
}

variable "cluster_arn" {
  description = "ARN of the cluster."
  type        = string
}

variable "node_role" {
  description = "The role that nodes get."
  type        = object({ name = string, arn = string })
}

variable "boundary_arn" {
  description = "Permissions boundary of the controller: the region policy."
  type        = string
}

variable "volumes_key_arn" {
  description = "Key of volumes."
  type        = string
}

variable "bottlerocket_version" {
  description = "Release of Bottlerocket."
  type        = string
}

variable "gpu" {
  description = "What may be started for GPU work."
  type = object({
    instance_types = list(string)
    capacity_types = list(string)
    max_gpus       = number
    volume_gib     = number
  })
}

variable "general" {
  description = "What may be started for work without a GPU."
  type        = object({ instance_types = list(string), capacity_types = list(string), max_cpus = number })
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
