variable "bucket" {
  description = "Its name."
  type        = string
}

variable "key_arn" {
  description = "Key of what is at rest."
  type        = string
}

variable "access_log_bucket" {
  description = "Where S3 writes who read and wrote what."
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

variable "lock_days" {
  description = "How long an object cannot be deleted by anybody; null: Object Lock is off."
  type        = number
  default     = null
}

variable "noncurrent_days" {
  description = "How long a deleted object can be brought back."
  type        = number
}
