variable "name" {
  description = "Prefix of the repositories."
  type        = string
}

variable "images" {
  description = "Names of the images: the targets of deploy/images/Dockerfile."
  type        = list(string)
}

variable "key_arn" {
  description = "Key of the layers."
  type        = string
}
