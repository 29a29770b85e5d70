# Stands in for modules/secrets in tests: Terraform's mocked providers know no ephemeral values yet.

output "owner_password" {
  value = "not-a-password"
}

output "platform" {
  value = { name = "interpretops/platform", arn = "arn:aws:secretsmanager:ap-southeast-2:111122223333:secret:platform" }
}
