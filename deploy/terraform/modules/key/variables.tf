variable "name" {
  description = "Prefix of the alias."
  type        = string
}

variable "purpose" {
  description = "What it encrypts; the end of the alias."
  type        = string
}

variable "services" {
  description = "AWS services that use it by themselves, such as logs.ap-southeast-2.amazonaws.com."
  type        = list(string)
  default     = []
}

variable "where" {
  description = "Partition, account and region."
  type        = object({ partition = string, account = string, region = string })
}
