variable "name" {
  description = "Prefix of the secrets."
  type        = string
}

variable "revision" {
  description = "Raise it to have all of them made anew."
  type        = number
}

variable "database_address" {
  description = "Host and port of PostgreSQL."
  type        = string
}

variable "broker_address" {
  description = "Host and port of Valkey."
  type        = string
}

variable "broker_token" {
  description = "Password of Valkey."
  type        = string
  sensitive   = true
}

variable "key_arn" {
  description = "Key of the secrets."
  type        = string
}
