output "prefix" {
  description = "What stands before the name of an image."
  value       = replace(values(aws_ecr_repository.this)[0].repository_url, "/[^/]+$/", "")
}
