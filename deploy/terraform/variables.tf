variable "name" {
  description = "Prefix of everything that is made, and the name of the cluster."
  type        = string
  default     = "interpretops"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,24}$", var.name))
    error_message = "name is 3 to 25 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  description = "Where everything is. Data does not leave it: policies refuse every other region."
  type        = string
  default     = "ap-southeast-2"

  validation {
    condition     = contains(["ap-southeast-2", "ap-southeast-4"], var.region)
    error_message = "region is one in Australia: ap-southeast-2 (Sydney) or ap-southeast-4 (Melbourne)."
  }
}

variable "account_id" {
  description = "The one account this may be applied to; null allows any."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of your own, on everything."
  type        = map(string)
  default     = {}
}

variable "vpc_cidr" {
  description = "Addresses of the network; a /16, of which each subnet of pods takes a /19."
  type        = string
  default     = "10.0.0.0/16"
}

variable "availability_zones" {
  description = "How many zones are used."
  type        = number
  default     = 3

  validation {
    condition     = contains([2, 3], var.availability_zones)
    error_message = "availability_zones is 2 or 3."
  }
}

variable "nat_gateway_per_zone" {
  description = "Whether each zone has a way out of its own. One for all costs less and ends with its zone."
  type        = bool
  default     = true
}

variable "kubernetes_version" {
  description = "Version of the control plane."
  type        = string
  default     = "1.33"
}

variable "api_access_cidrs" {
  description = "From where the Kubernetes API is reached by internet. Empty: from the network only."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.api_access_cidrs, "0.0.0.0/0")
    error_message = "api_access_cidrs names the addresses of your office or VPN, not the whole internet."
  }
}

variable "admin_role_arns" {
  description = "IAM roles whose holders administer the cluster."
  type        = list(string)

  validation {
    condition     = length(var.admin_role_arns) > 0
    error_message = "admin_role_arns names at least one role, or nobody can enter the cluster."
  }
}

variable "break_glass_role_arns" {
  description = "IAM roles that may read objects from outside the network, for a restore by hand."
  type        = list(string)
  default     = []
}

variable "system_nodes" {
  description = "The nodes that run the control plane of the platform; they are always there."
  type = object({
    instance_types = list(string)
    min            = number
    max            = number
  })
  default = { instance_types = ["m7i.large"], min = 3, max = 6 }
}

variable "gpu" {
  description = "What Karpenter may start for GPU work. More types find capacity more often."
  type = object({
    instance_types = list(string)
    capacity_types = optional(list(string), ["on-demand"])
    max_gpus       = optional(number, 8)
    volume_gib     = optional(number, 200)
  })
  default = { instance_types = ["g6e.xlarge", "g6e.2xlarge", "g6.2xlarge", "g5.2xlarge"] }

  validation {
    condition     = alltrue([for each in var.gpu.capacity_types : contains(["on-demand", "spot"], each)])
    error_message = "gpu.capacity_types holds on-demand and spot."
  }
}

variable "general" {
  description = "What Karpenter may start for work without a GPU, such as reports."
  type = object({
    instance_types = list(string)
    capacity_types = optional(list(string), ["on-demand"])
    max_cpus       = optional(number, 32)
  })
  default = { instance_types = ["m7i.large", "m7i.xlarge"] }
}

variable "bottlerocket_version" {
  description = "Release of the node's operating system, such as v1.44.0; nodes are replaced when it changes."
  type        = string
  default     = "latest"
}

variable "database" {
  description = "PostgreSQL."
  type = object({
    instance_class = optional(string, "db.m7g.large")
    engine_version = optional(string, "17")
    storage_gib    = optional(number, 50)
    max_gib        = optional(number, 500)
    multi_az       = optional(bool, true)
    backup_days    = optional(number, 14)
  })
  default = {}

  validation {
    condition     = var.database.backup_days >= 1 && var.database.backup_days <= 35
    error_message = "database.backup_days is 1 to 35."
  }
}

variable "broker" {
  description = "Valkey. It carries hints only: losing it loses no job."
  type = object({
    node_type = optional(string, "cache.t4g.small")
    nodes     = optional(number, 2)
  })
  default = {}
}

variable "broker_token" {
  description = "Password of Valkey: 32 letters and digits, from `TF_VAR_broker_token`."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^[A-Za-z0-9]{32,128}$", var.broker_token))
    error_message = "broker_token is 32 to 128 letters and digits: openssl rand -hex 32"
  }
}

variable "secrets_revision" {
  description = "Raise it to have all passwords and keys made anew; every API key has to be issued again then."
  type        = number
  default     = 1
}

variable "audit_anchor_days" {
  description = "How long an anchor of the audit log cannot be deleted by anybody, root included."
  type        = number
  default     = 2557 # seven years

  validation {
    condition     = var.audit_anchor_days >= 1
    error_message = "audit_anchor_days is at least 1."
  }
}

variable "noncurrent_days" {
  description = "How long a deleted object can be brought back; the window of a restore. Retention is complete after it."
  type        = number
  default     = 14
}

variable "namespace" {
  description = "Namespace of the release."
  type        = string
  default     = "interpretops"
}

variable "organization_target_id" {
  description = "An account or unit of AWS Organizations that the region policy is attached to; null leaves it out."
  type        = string
  default     = null
}

variable "release" {
  description = "Name of the Helm release."
  type        = string
  default     = "interpretops"
}
