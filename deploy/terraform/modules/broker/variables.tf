variable "name" {
  description = "Name of the replication group."
  type        = string
}

variable "broker" {
  description = "Its sizes."
  type        = object({ node_type = string, nodes = number })
}

variable "token" {
  description = "Password. ElastiCache's resource has no write-only form of it, so it stands in the state."
  type        = string
  sensitive   = true
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets without a way out."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Who may connect."
  type        = string
}

variable "key_arn" {
  description = "Key of what is at rest."
  type        = string
}

variable "logs_key_arn" {
  description = "Key of the log groups."
  type        = string
}
