variable "name" {
  description = "Name of the instance."
  type        = string
}

variable "database" {
  description = "Its sizes."
  type = object({
    instance_class = string
    engine_version = string
    storage_gib    = number
    max_gib        = number
    multi_az       = bool
    backup_days    = number
  })
}

variable "owner_password" {
  description = "Password of the owner of the tables."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "owner_password_version" {
  description = "Raise it to have the password set anew."
  type        = number
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
  description = "Key of storage, backups and insights."
  type        = string
}

variable "logs_key_arn" {
  description = "Key of the log groups."
  type        = string
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
