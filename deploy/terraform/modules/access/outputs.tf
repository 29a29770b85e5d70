output "role_arns" {
  description = "Role of each service account; for the annotation of IRSA where there is no Pod Identity."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}
