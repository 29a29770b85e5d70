output "names" {
  description = "Name of each bucket."
  value       = { for kind, bucket in module.bucket : kind => bucket.name }
}

output "arns" {
  description = "ARN of each bucket."
  value       = { for kind, bucket in module.bucket : kind => bucket.arn }
}
