variable "name" {
  description = "Prefix of the buckets."
  type        = string
}

variable "key_arn" {
  description = "Key of what is at rest."
  type        = string
}

variable "endpoint_id" {
  description = "The way to S3 through which objects are read and written."
  type        = string
}

variable "break_glass_role_arns" {
  description = "Roles that may read and write objects from elsewhere."
  type        = list(string)
}

variable "anchor_days" {
  description = "How long an anchor cannot be deleted."
  type        = number
}

variable "noncurrent_days" {
  description = "How long a deleted object can be brought back."
  type        = number
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
