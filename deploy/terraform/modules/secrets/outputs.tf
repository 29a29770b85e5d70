output "owner_password" {
  description = "Password of the owner of the tables, for the database itself."
  value       = ephemeral.aws_secretsmanager_secret_version.owner.secret_string
  ephemeral   = true
  sensitive   = true
}

output "platform" {
  description = "Name and ARN of the secret that External Secrets reads."
  value       = { name = aws_secretsmanager_secret.this["platform"].name, arn = aws_secretsmanager_secret.this["platform"].arn }
}
