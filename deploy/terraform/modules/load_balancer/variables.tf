variable "cluster_name" {
  description = "Name of the cluster."
  type        = string
}

variable "node_security_group_id" {
  description = "The group of the nodes, which a load balancer has to reach."
  type        = string
}

variable "boundary_arn" {
  description = "Permissions boundary: the region policy."
  type        = string
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
