output "boundary_arn" {
  description = "Permissions boundary of every role of a pod."
  value       = aws_iam_policy.boundary.arn
}
