variable "name" {
  description = "Prefix of the policies."
  type        = string
}

variable "organization_target_id" {
  description = "Account or unit that the service control policy is attached to; null leaves it out."
  type        = string
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
