output "address" {
  description = "Host and port."
  value       = aws_db_instance.this.endpoint
}

output "host" {
  description = "Host."
  value       = aws_db_instance.this.address
}
